"""
Group 9, parsing: what a run writes is read by somebody, and a parser is a way in.

What is covered: T105 (pickles in the artifact), T106 (an artifact that unpacks to more than the memory there is),
T107 to T109 (archives, JSON and configurations that a naive loop would read), with controls.
What is not covered: T110 beyond the pickles of a TorchScript file: what ``torch.export`` itself executes runs in
the scorer's sandbox. Headers that lie are in tests/test_artifact.py.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
from project import Project
from redteam.inside import Scene, scene_of

#: The artifact is a program: whoever unpickles it touches a file, and shows whether it sees the labels.
PICKLE = """
import pickle
class Evil:
    def __reduce__(self):
        return (exec, (CODE,))
CODE = f'''
import os
for path in ({OUTSIDE + "/unpickled"!r}, {ROOT + "/conftest.py"!r}):
    try: open(path, "w").write("evil")
    except OSError: pass
try: open({OUTSIDE + "/seen"!r}, "wb").write(open({ROOT + "/data/heldout/val/labels.npy"!r}, "rb").read())
except OSError: pass
'''
"""
FORMS = {
    "a pickle": 'pickle.dump(Evil(), open(OUT + "/model.pt2", "wb"))',
    "an object array": """
import numpy
with open(OUT + "/model.pt2", "wb") as file: numpy.save(file, numpy.array([Evil()], dtype=object), allow_pickle=True)
""",
    "an archive of object arrays": """
import numpy
with open(OUT + "/model.pt2", "wb") as file: numpy.savez(file, w=numpy.array([Evil()], dtype=object))
""",
    "a checkpoint with a pickle in it": """
import zipfile
with zipfile.ZipFile(OUT + "/model.pt2", "w") as file: file.writestr("archive/data.pkl", pickle.dumps(Evil()))
""",
}
#: A harness that loads what it finds, by the means that fits.
NAIVE_LOAD = """
import pickle, sys, zipfile
import numpy
data = open(sys.argv[1], "rb").read()
if zipfile.is_zipfile(sys.argv[1]) and b"data.pkl" in data:
    pickle.loads(zipfile.ZipFile(sys.argv[1]).read("archive/data.pkl"))
else:
    found = numpy.load(sys.argv[1], allow_pickle=True)
    [found[name] for name in getattr(found, "files", ())]
"""
#: A prepare.py whose author trusted the artifact.
TRUSTING = """

def score(artifact, features):
    import io, pickle, zipfile
    if zipfile.is_zipfile(artifact) and "archive/data.pkl" in zipfile.ZipFile(artifact).namelist():
        pickle.loads(zipfile.ZipFile(artifact).read("archive/data.pkl"))
    else:
        found = np.load(artifact, allow_pickle=True)
        held = [found[name] for name in getattr(found, "files", ())]
        if sum(array.nbytes for array in held) > 64 << 20:
            import time
            time.sleep(20)  # a meter looks now and then
    return np.full(len(features["x"]), 0.5)
"""


def executed(scene: Scene) -> bool:
    """The pickle ran where it could reach something."""
    return any(scene.outside.iterdir()) or (scene.project.root / "conftest.py").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_program_in_the_artifact_reaches_nothing(form: str, scene: Scene, level: str) -> None:
    ran = scene.guarded(PICKLE + FORMS[form], level)
    assert ran.result is not None
    assert ran.result.artifact is not None, ran.result.reason

    assert scene.score(ran, level) != ""

    assert not executed(scene)


@pytest.fixture(scope="module")
def trusting_template(template: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = template.copy(tmp_path_factory.mktemp("trusting") / "project")
    source = project.read("prepare.py")
    project.write(
        "prepare.py",
        source.replace('if __name__ == "__main__"', TRUSTING + '\nif __name__ == "__main__"'),
    )
    project.commit("trust the model")
    return project


@pytest.mark.parametrize("form", FORMS)
def test_not_even_where_prepare_py_unpickles_it(
    form: str, trusting_template: Project, tmp_path_factory: pytest.TempPathFactory, level: str
) -> None:
    """Whatever score() executes, it executes in the scorer's sandbox, which holds no label."""
    with scene_of(trusting_template, tmp_path_factory.mktemp("scene")) as scene:
        ran = scene.guarded(PICKLE + FORMS[form], level)
        assert scene.score(ran, level) == ""  # it was executed, and the predictions came back
        assert not executed(scene)


@pytest.mark.parametrize("form", FORMS)
def test_control_an_unguarded_loader_executes_it(form: str, scene: Scene) -> None:
    ran = scene.bare(PICKLE + FORMS[form])
    command = [sys.executable, "-c", NAIVE_LOAD, str(ran.out / "model.pt2")]
    subprocess.run(command, capture_output=True, check=False)
    assert (scene.outside / "unpickled").exists(), ran.log
    assert (scene.outside / "seen").read_bytes() == scene.labels


# -- an artifact that is small on the disk only (T106) ---------------------------------------------

BOMB_MIB = 160
BOMB = f"""
import numpy
with open(OUT + "/model.pt2", "wb") as file: numpy.savez_compressed(file, w=numpy.zeros({BOMB_MIB} << 17))
print("bytes", os.path.getsize(OUT + "/model.pt2"))
"""


def test_an_artifact_that_swells_is_cut_off(
    trusting_template: Project, tmp_path_factory: pytest.TempPathFactory, level: str
) -> None:
    with scene_of(trusting_template, tmp_path_factory.mktemp("scene")) as scene:
        ran = scene.guarded(BOMB, level)
        assert ran.result is not None
        assert ran.result.artifact is not None, ran.result.reason
        assert ran.result.artifact.stat().st_size < 1 << 20

        assert scene.score(ran, level, memory_mb=110) != ""


def test_control_an_unguarded_loader_holds_all_of_it(scene: Scene) -> None:
    ran = scene.bare(BOMB)
    measure = (
        NAIVE_LOAD
        + "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", measure, str(ran.out / "model.pt2")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert int(done.stdout) > BOMB_MIB, ran.log


# -- files that only a naive loop reads (T107, T108, T109) -----------------------------------------

HOSTILE = """
import io, json, tarfile
open(OUT + "/metrics.json", "w").write("[" * 200000)
open(OUT + "/huge.json", "w").write('{"val_loss": ' + "9" * 2000000 + "}")
open(OUT + "/config.yaml", "w").write(f"!!python/object/apply:os.system ['touch {OUTSIDE}/yaml']")
open(OUT + "/config.py", "w").write(f"open({OUTSIDE + '/config'!r}, 'w')")
with tarfile.open(OUT + "/model.tar", "w") as archive:
    member = tarfile.TarInfo("../outside/extracted"); member.size = 4
    archive.addfile(member, io.BytesIO(b"evil"))
    member = tarfile.TarInfo("link"); member.type = tarfile.SYMTYPE; member.linkname = ROOT
    archive.addfile(member)
"""
NAIVE_READS = {
    "JSON that is nested too deeply": 'import json; json.load(open("metrics.json"))',
    "a number of a million digits": 'import json; json.load(open("huge.json"))',
}


def test_other_files_of_a_run_are_not_read(scene: Scene, level: str) -> None:
    """An honest model beside them counts for what it is."""
    ran = scene.guarded(HOSTILE, level, goes_on=True)
    assert ran.result is not None
    assert ran.result.status == "finished", ran.result.reason
    assert scene.score(ran, level) == ""
    assert not executed(scene)
    assert {path.name for path in ran.out.iterdir()} >= {"run.log", "model.pt2"}
    assert not list(ran.out.rglob("*.tar")) + list(ran.out.rglob("*.json"))


@pytest.mark.parametrize("what", NAIVE_READS)
def test_control_a_loop_that_reads_results_crashes(what: str, scene: Scene) -> None:
    ran = scene.bare(HOSTILE)
    done = subprocess.run(
        [sys.executable, "-c", NAIVE_READS[what]], cwd=ran.out, capture_output=True, check=False
    )
    assert done.returncode != 0


def test_control_a_loop_that_unpacks_or_runs_what_it_finds_is_taken_over(scene: Scene) -> None:
    ran = scene.bare(HOSTILE)
    program = 'import tarfile; tarfile.open("model.tar").extractall(filter="fully_trusted"); exec(open("config.py").read())'
    subprocess.run([sys.executable, "-c", program], cwd=ran.out, capture_output=True, check=False)
    assert {path.name for path in scene.outside.iterdir()} >= {"extracted", "config"}
