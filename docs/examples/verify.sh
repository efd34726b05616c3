#!/bin/sh
# Verify a campaign's provenance: PASS, or BLOCK with the first broken link in words.
#
#     verify.sh PROJECT [TAG] [--anchors FILE]...
#
# A second implementation of `autoresearch verify`, from the description of the format in docs/provenance.md alone:
# a POSIX shell, sed, grep, tr, cut, sort, sha256sum and git; no Python, no JSON parser. Slow, two processes a row:
# it is there so that nobody has to trust one program. Exit status: 0 PASS, 1 BLOCK, 2 cannot tell.
set -u
LC_ALL=C
export LC_ALL
umask 077

usage='usage: verify.sh PROJECT [TAG] [--anchors FILE]...'
project=${1:?$usage}
shift
tag=main
case ${1:-} in '' | -*) ;; *) tag=$1; shift ;; esac
ledgers=$project/.autoresearch/$tag
refs=refs/autoresearch/$tag
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
: >"$work/hashed"
: >"$work/named"
: >"$work/states"

outside=
while [ $# -gt 0 ]; do
    [ "$1" = --anchors ] && [ $# -gt 1 ] || { printf '%s\n' "$usage" >&2; exit 2; }
    cat -- "$2" >>"$work/anchors" || exit 2
    outside=1
    shift 2
done

cannot() { printf 'cannot tell: %s\n' "$*" >&2; exit 2; }
block() { printf 'BLOCK: %s\n' "$*"; exit 1; }
sum() { sha256sum | cut -c1-64; }

# Nothing in the repository or the environment steers git.
gitdir=$project/.git
[ -e "$gitdir" ] || gitdir=$project
run_git() {
    env -i PATH="$PATH" LC_ALL=C HOME=/nonexistent GIT_DIR="$gitdir" GIT_CONFIG_NOSYSTEM=1 \
        GIT_CONFIG_GLOBAL=/dev/null GIT_NO_REPLACE_OBJECTS=1 GIT_GRAFT_FILE=/dev/null GIT_NO_LAZY_FETCH=1 \
        GIT_ALLOW_PROTOCOL=none GIT_OPTIONAL_LOCKS=0 \
        git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.useReplaceRefs=false "$@" 2>/dev/null
}
format=$(run_git rev-parse --show-object-format) || cannot "$project is no git repository"
ref() { run_git rev-parse --verify -q --end-of-options "$1"; }

# An object's content must give its id; git itself does not look.
rehash() { # object, link, where
    grep -qx "$1" "$work/hashed" && return
    _kind=$(run_git cat-file -t "$1") || block "$2: $3: the object $1 is missing"
    run_git cat-file "$_kind" "$1" >"$work/object" || block "$2: $3: the object $1 cannot be read"
    _size=$(wc -c <"$work/object" | tr -d ' ')
    _sum=$({ printf '%s %s\0' "$_kind" "$_size"; cat "$work/object"; } | "${format}sum" | cut -d' ' -f1)
    [ "$_sum" = "$1" ] || block "object does not reproduce its hash: $3: git object $1"
    printf '%s\n' "$1" >>"$work/hashed"
}
rehash_tree() { # tree, link, where
    rehash "$1" "$2" "$3"
    run_git ls-tree "$1" | while read -r _ _type _oid _; do
        case $_type in
            tree) rehash_tree "$_oid" "$2" "$3" || exit 1 ;;
            blob) rehash "$_oid" "$2" "$3" || exit 1 ;;
        esac
    done || exit 1
}
tree_of() { run_git rev-parse --verify -q --end-of-options "$1^{tree}"; }

# ---- bytes: each file is a chain of printable lines

chain() { # ledger: writes "$work/LEDGER", one "seq sha256 data" a line
    file=$ledgers/$1.jsonl
    : >"$work/$1"
    [ -e "$file" ] || return 0
    { [ -f "$file" ] && [ ! -h "$file" ]; } || block "foreign file: $1.jsonl: not a regular file"
    cp "$file" "$work/copy" || cannot "$file cannot be read"
    [ "$(tr -d '\n -~' <"$work/copy" | wc -c)" -eq 0 ] || block "altered row: $1.jsonl: bytes that no row has"
    if [ -s "$work/copy" ] && [ "$(tail -c1 "$work/copy" | wc -l)" -eq 0 ]; then
        block "torn tail: $1.jsonl: bytes without a line end"
    fi
    row='^\{"v":1,"seq":(0|[1-9][0-9]*),"prev":"([0-9a-f]{64})","time":"[0-9T:.+-]{19,40}","data":(\{.*\}),"sha256":"([0-9a-f]{64})"\}$'
    expected=0
    before=$(printf '' | sum)
    while IFS= read -r line; do
        where="$1.jsonl, line $((expected + 1))"
        [ "${#line}" -lt 1048576 ] || block "altered row: $where: longer than a row"
        fields=$(printf '%s\n' "$line" | sed -nE "s/$row/\1 \2 \4/p")
        [ -n "$fields" ] || block "altered row: $where: not a ledger's row, to the byte"
        # shellcheck disable=SC2086 # three words
        set -- "$1" $fields
        body=${line%',"sha256":"'*}
        [ "$(printf '%s' "$body" | sum)" = "$4" ] || block "altered row: $where: it does not match its own hash"
        [ "$2" = "$expected" ] || block "altered row: $where: row $2 where row $expected belongs"
        [ "$3" = "$before" ] || block "altered row: $where: written behind another row than the one before it"
        data=$(printf '%s\n' "$line" | sed -nE "s/$row/\3/p")
        if [ "$expected" -eq 0 ]; then
            [ "$data" = "{\"kind\":\"opened\",\"ledger\":\"$1\"}" ] || block "foreign file: $where: it opens another ledger"
        fi
        before=$(printf '%s\n' "$line" | sum)
        printf '%s %s %s\n' "$expected" "$before" "$data" >>"$work/$1"
        expected=$((expected + 1))
    done <"$work/copy"
}
chain restore-source
chain cutover-audit

# A quote inside a JSON text is escaped, so `"name":` is always a key, never part of a text.
field() { printf '%s\n' "$2" | sed -nE "s/$1/\1/p"; }
own='^[0-9]+ [0-9a-f]{64} \{"kind":"torn-tail",'
for name in restore-source:intent cutover-audit:cutover; do
    ledger=${name%:*}
    [ -s "$work/$ledger" ] || continue
    sed 1d "$work/$ledger" | grep -vE "$own" >"$work/${name#*:}"
    if grep -qvE "^[0-9]+ [0-9a-f]{64} \{\"kind\":\"${name#*:}\"," "$work/${name#*:}"; then
        block "altered row: $ledger.jsonl: a kind of row that does not belong there"
    fi
done
touch "$work/intent" "$work/cutover"
holds() { # ledger, "seq:sha256", number of the row that must stand behind it
    seq=${2%%:*}
    [ "$seq" -lt "$3" ] || return 1
    [ "$2" = "-1:$(printf '' | sum)" ] || grep -q "^$seq ${2#*:} " "$work/$1"
}

# ---- rows: pairs, arithmetic, gates; what git has to say to each

text='(\\.|[^"\\])*'
budget=0 spent=0 pinned='' branch='' incumbent='' first='' harness='' data_sha='' link_before="-1:$(printf '' | sum)"
names() { printf '%s\n' "$1" | grep -oE "\"$text\"" | sort; }

require_pin() { # pin, commit, link, where
    [ "$1" = "$refs/restore/$2" ] || block "$3: $4: its restore point is not that of its commit"
    _pinned=$(ref "$1") || block "$3: $4: the restore point $1 is absent (git fetch origin '+refs/autoresearch/*:refs/autoresearch/*')"
    [ "$_pinned" = "$2" ] || block "$3: $4: the restore point $1 holds another commit"
}
require_surface() { # tree, the object's JSON, where
    printf '%s\n' "$2" | grep -oE "\"$text\":\"[0-9a-f]+\"" | while IFS= read -r entry; do
        path=$(field "^\"(.*)\":\"[0-9a-f]+\"\$" "$entry")
        oid=$(field "^\".*\":\"([0-9a-f]+)\"\$" "$entry")
        [ "$(run_git rev-parse --verify -q "$1:$path")" = "$oid" ] || block "surface mismatch: $3: $path"
        rehash "$oid" "surface mismatch" "$3"
    done || exit 1
}
require_gates() { # payload, where
    listed=$(field '^.*"gates":\[(.*)\],"runs":\[.*$' "$1")
    all=$(printf '%s\n' "$listed" | grep -oE "\"nodeid\":\"$text\"" | sed 's/^"nodeid"://' | sort)
    passed=$(printf '%s\n' "$listed" | grep -oE "\"nodeid\":\"$text\",\"stage\":\"[a-z]+\",\"outcome\":\"passed\"" |
        sed -E 's/^"nodeid":(.*),"stage":"[a-z]+","outcome":"passed"$/\1/' | sort)
    [ -n "$all" ] && [ "$all" = "$passed" ] || block "gates: $2: a keep, but not every gate passed"
    [ "$(printf '%s\n' "$all" | uniq -d)" = '' ] || block "gates: $2: a gate stands there twice"
    [ -z "$pinned" ] || [ "$all" = "$pinned" ] || block "gates: $2: a keep by other gates than the pinned ones"
}
require_keep() { # commit, before, payload, surface, where, row of the intent, row of its end
    rehash "$1" "rewritten history" "$5"
    [ "$(run_git cat-file commit "$1" | sed '/^$/q' | grep '^parent ')" = "parent $2" ] ||
        block "rewritten history: $5: the parent of $1 is not the incumbent"
    rehash_tree "$(tree_of "$1")" "rewritten history" "$5"
    require_surface "$(tree_of "$1")" "$4" "$5"
    run_git diff-tree -r --no-renames --name-only "$(tree_of "$2")" "$(tree_of "$1")" | while IFS= read -r path; do
        case $4 in
            *"\"$path\":"*) ;;
            *) block "undocumented step: $5: the keep commit changes $path as well" ;;
        esac
    done || exit 1
    for name in Restore-Source:restore-source:$6 Cutover-Audit:cutover-audit:$7; do
        ledger=${name#*:}
        head=$(run_git cat-file commit "$1" | sed '1,/^$/d' | awk -v RS= '{ last = $0 } END { print last }' |
            sed -nE "s/^Autoresearch-${name%%:*}: (-?[0-9]+:[0-9a-f]{64})\$/\1/p")
        case $head in
            '' | *"
"*) block "rewritten history: $5: the keep commit carries no head of ${ledger%:*}" ;;
        esac
        holds "${ledger%:*}" "$head" "${ledger#*:}" || block "rewritten history: $5: ${ledger%:*} had another row ${head%%:*}"
    done
    run=$(field '^.*"gates":\[.*\],"runs":\[\{(.*)$' "$3")
    model=$(field '^[^{]*"artifact":"([0-9]+\/[^\/"\\]+)".*$' "${run%%\}*}")
    if [ -n "$model" ] && [ -e "$ledgers/runs/$model" ]; then
        expected=$(field '^[^{]*"artifact_sha256":"([0-9a-f]*)".*$' "${run%%\}*}")
        { [ ! -h "$ledgers/runs/$model" ] && [ "$(sum <"$ledgers/runs/$model")" = "$expected" ]; } ||
            block "artifact hash mismatch: $5: runs/$model is not the model that was scored"
    fi
}

changes=0 keeps=0
exec 3<"$work/cutover"
while read -r seq sha intent; do
    where="restore-source.jsonl, line $((seq + 1))"
    head='^\{"kind":"intent","action":"([a-z]+)","branch":"([^"\\]*)","tip":"([0-9a-f]*)","tree":"([0-9a-f]*)","surface":(\{.*\}),"pin":"([^"\\]*)","target":"([0-9a-f]*)","domain":.*$'
    tail='^.*,"domain":(null|"[a-z]+"),"cost":([0-9]+),"payload_sha256":"([0-9a-f]{64})","cutover":\{"seq":(-?[0-9]+),"sha256":"([0-9a-f]{64})"\}\}$'
    fields=$(printf '%s\n' "$intent" | sed -nE "s/$head/\1 \2 \3 \4 x\6 x\7/p")
    more=$(printf '%s\n' "$intent" | sed -nE "s/$tail/\2 \3 \4:\5/p")
    { [ -n "$fields" ] && [ -n "$more" ]; } || block "altered row: $where: not an intent's row"
    # shellcheck disable=SC2086 # words without blanks
    set -- $fields $more
    action=$1 tip=$3 tree=$4 pin=${5#x} target=${6#x} cost=$7 announced=$8 link=$9
    surface=$(printf '%s\n' "$intent" | sed -nE "s/$head/\5/p")
    read -r end_seq end_sha end <&3 || block "missing cutover-audit entry: $where: this $action has no end"
    where="cutover-audit.jsonl, line $((end_seq + 1))"
    cut='^\{"kind":"cutover","source":\{"seq":([0-9]+),"sha256":"([0-9a-f]{64})"\},"action":"([a-z]+)","resolution":"([a-z-]+)","result":"([0-9a-f]*)","failure":"(\\.|[^"\\])*","payload":(\{.*\})\}$'
    fields=$(printf '%s\n' "$end" | sed -nE "s/$cut/\1:\2 \3 \4 x\5/p")
    [ -n "$fields" ] || block "altered row: $where: not a cutover's row"
    # shellcheck disable=SC2086
    set -- $fields
    resolution=$3 result=${4#x}
    payload=$(printf '%s\n' "$end" | sed -nE "s/$cut/\7/p")
    kind=$(field '^\{"kind":"([a-z]+)".*$' "$payload")
    { [ "$1" = "$seq:$sha" ] && [ "$2" = "$action" ]; } || block "restore pair mismatch: $where: it settles another change"
    [ "$link" = "$link_before" ] || block "restore pair mismatch: $where: its intent was written behind another row"
    link_before=$end_seq:$end_sha
    if [ "$kind" != lost ] && [ "$(printf '%s' "$payload" | sum)" != "$announced" ]; then
        block "restore pair mismatch: $where: it holds another payload than its intent announced"
    fi
    case $resolution in done | finished) done=1 ;; rolled-back) done='' ;; *) block "altered row: $where: no resolution" ;; esac
    if [ "$done" ] && [ "$target" ] && [ "$result" != "$target" ]; then
        block "altered row: $where: its result is not what its intent says"
    fi
    [ -z "$result" ] || [ "$done" ] || block "altered row: $where: undone, and yet it has a result"
    left=$((budget > spent ? budget - spent : 0))
    previous=$incumbent
    case $action:$kind in
        baseline:baseline)
            if [ "$done" ]; then
                commit=$(field '^.*\],"commit":"([0-9a-f]+)","tree":".*$' "$payload")
                source=$(field '^.*\],"commit":"[0-9a-f]+","tree":"([0-9a-f]+)".*$' "$payload")
                [ "$(field '^.*,"tag":"([^"]*)","branch":".*$' "$payload")" = "$tag" ] || block "foreign file: $where: another campaign"
                [ -z "$harness" ] || [ "$commit" = "$incumbent" ] || block "undocumented step: $where: a baseline elsewhere"
                case $payload in *'"after":{"mean":null,'*) ;; *) [ "$harness" ] || harness=$source ;; esac
                branch=$(field '^.*,"branch":"([^"]*)","budget":.*$' "$payload")
                budget=$(field '^.*,"budget":([0-9]+),"pinned":.*$' "$payload")
                pinned=$(names "$(field '^.*,"pinned":\[(.*)\],"commit":"[0-9a-f]+","tree".*$' "$payload")")
                data_sha=$(field '^.*,"data_sha256":"([0-9a-f]*)".*$' "$payload")
                incumbent=$commit
                [ "$first" ] || first=$commit
            fi
            ;;
        ratify:ratify)
            commit=$(field '^.*","commit":"([0-9a-f]+)","tree":".*$' "$payload")
            source=$(field '^.*","commit":"[0-9a-f]+","tree":"([0-9a-f]+)".*$' "$payload")
            if [ "$done" ]; then
                case $payload in *'"actor":""'*) block "altered row: $where: nobody ratified it" ;; esac
                harness=$source incumbent=$commit pinned=''
                data_sha=$(field '^.*,"data_sha256":"([0-9a-f]*)".*$' "$payload")
                total=$(field '^.*,"budget":([0-9]+)\}$' "$payload")
                budget=${total:-$budget}
            fi
            ;;
        keep:verdict | revert:verdict | rollback:verdict | escalate:verdict)
            [ "$previous" ] || block "source tree not pinned: $where: a verdict before any baseline"
            decision=$(field '^.*,"decision":"([a-z]+)","status":.*$' "$payload")
            case $action:$decision in
                keep:keep | revert:revert | revert:unchanged | rollback:revert | escalate:escalate) ;;
                *) block "altered row: $where: a $action of the verdict $decision" ;;
            esac
            charged=$(field '^.*,"cost":([0-9]+),"description":.*$' "$payload")
            [ "$charged" = "$cost" ] || block "budget arithmetic: $where: it costs $charged, its intent $cost"
            [ "$(field '^.*,"budget_before":(-?[0-9]+,"budget_after":-?[0-9]+),"commit_before":"[0-9a-f]*"\}$' "$payload")" = \
                "$left,\"budget_after\":$((left - cost))" ] || block "budget arithmetic: $where: the rows before leave $left"
            spent=$((spent + cost))
            judged=$(field '^.*,"harness_tree":"([0-9a-f]*)".*$' "$payload")
            [ -z "$harness" ] || [ "$judged" = "$harness" ] || block "source tree not pinned: $where: judged by another harness"
            [ "$(field '^.*,"data_sha256":"([0-9a-f]*)".*$' "$payload")" = "$data_sha" ] ||
                block "source tree not pinned: $where: judged on other data"
            [ "$decision" != keep ] || require_gates "$payload" "$where"
            if [ "$done" ] && [ "$action" = keep ]; then incumbent=$result; fi
            if [ "$done" ] && [ "$action" = rollback ]; then
                grep -qx "$target" "$work/states" || block "missing checkpoint: $where: it goes back to what was never kept"
                [ "$(field '^.*"restore":"([0-9a-f]+)".*$' "$payload")" = "$target" ] || block "altered row: $where: the branch went elsewhere"
                incumbent=$target
            fi
            ;;
        *:lost)
            [ -z "$done" ] || block "altered row: $where: its payload was lost, and yet it took place"
            case $payload in *'"domain":null'*) ;; *) spent=$((spent + cost)) ;; esac
            ;;
        rollback:restore)
            if [ "$done" ]; then
                grep -qx "$target" "$work/states" || block "missing checkpoint: $where: it goes back to what was never kept"
                spent=$((spent + $(field '^.*,"cost":([0-9]+)\}$' "$payload")))
                harness=$(field '^.*,"ratified":"[0-9a-f]*","tree":"([0-9a-f]*)".*$' "$payload")
                pinned=$(names "$(field '^.*,"pinned":\[(.*)\],"discarded":\[.*$' "$payload")")
                data_sha=$(field '^.*,"data_sha256":"([0-9a-f]*)".*$' "$payload")
                printf '%s\n' "$payload" | grep -oE '"[0-9a-f]{40,64}"' | tr -d '"' >>"$work/named"
                incumbent=$target
            fi
            ;;
        halt:halt | stop:stop) ;;
        *) block "altered row: $where: a $action with the payload $kind" ;;
    esac

    printf '%s\n%s\n%s\n' "$tip" "$pin" "$result" >>"$work/named"
    case $kind in baseline | ratify | verdict) printf '%s\n' "$incumbent" >>"$work/states" ;; esac
    changes=$((changes + 1))
    [ "$pin" ] || { [ "$kind" = halt ] || [ "$kind" = stop ] || block "missing checkpoint: $where: no restore point"; continue; }
    checkpoint=$tip reason='missing checkpoint'
    [ "$kind" != ratify ] || checkpoint=$commit
    case $kind in baseline | ratify) reason='source tree not pinned' ;; esac
    require_pin "$pin" "$checkpoint" "$reason" "$where"
    rehash "$tip" "missing checkpoint" "$where"
    [ "$(tree_of "$tip")" = "$tree" ] || block "missing checkpoint: $where: the restore point has another tree"
    case $kind in verdict | ratify) require_surface "$tree" "$surface" "$where" ;; esac
    case $kind in
        baseline | ratify)
            printf '%s\n' "$commit" >>"$work/named"
            rehash "$commit" "source tree not pinned" "$where"
            [ "$(tree_of "$commit")" = "$source" ] || block "source tree not pinned: $where: the commit has another tree"
            rehash_tree "$source" "source tree not pinned" "$where"
            ;;
    esac
    case $kind in
        baseline | verdict)
            snapshot=$(field '^.*,"snapshot":"([^"\\]*)".*$' "$payload")
            files=$(field '^.*,"surface":(\{[^{}]*\}),"snapshot":.*$' "$payload")
            found=$(ref "$snapshot") || block "missing checkpoint: $where: the candidate's pin $snapshot is absent"
            [ "$snapshot" = "$refs/candidate/$found" ] || block "missing checkpoint: $where: the candidate's pin was moved"
            printf '%s\n' "$snapshot" >>"$work/named"
            rehash_tree "$found" "missing checkpoint" "$where"
            require_surface "$found" "$files" "$where"
            digest=$(printf '%s\n' "$files" | grep -oE "\"$text\":\"[0-9a-f]+\"" | sort | while IFS= read -r entry; do
                path=$(field "^\"(.*)\":\"[0-9a-f]+\"\$" "$entry")
                oid=$(field "^\".*\":\"([0-9a-f]+)\"\$" "$entry")
                printf '%s:%s%s:' "${#path}" "$path" "$(run_git cat-file -s "$oid")"
                run_git cat-file blob "$oid"
            done | sum)
            [ "$digest" = "$(field '^.*,"candidate":"([0-9a-f]*)".*$' "$payload")" ] ||
                block "surface mismatch: $where: the candidate's digest is not that of the pinned files"
            ;;
    esac
    if [ "$kind" = verdict ]; then
        [ "$tip" = "$previous" ] || block "undocumented step: $where: the branch stood elsewhere than the rows say"
        if [ "$done" ] && [ "$action" = keep ]; then
            require_keep "$result" "$previous" "$payload" "$files" "$where" "$seq" "$end_seq"
            keeps=$((keeps + 1))
        fi
    fi
done <"$work/intent"
if read -r end_seq _ <&3; then
    block "restore pair mismatch: cutover-audit.jsonl, line $((end_seq + 1)): it settles a change that restore-source does not have"
fi

# ---- after the last row: the branch, the pinned keeps, the remembered heads

carries() { run_git cat-file commit "$1" | grep -qE '^Autoresearch-(Restore-Source|Cutover-Audit): '; }
named() { grep -qx "$1" "$work/named"; }
if [ "$harness" ]; then
    tip=$(ref "refs/heads/$branch") || tip=$(ref "refs/remotes/origin/$branch") ||
        block "rewritten history: branch $branch: there is no such branch"
    run_git merge-base --is-ancestor "$incumbent" "$tip" ||
        block "rewritten history: branch $branch: it ends at $tip, without the incumbent $incumbent"
    for commit in $(run_git rev-list "$incumbent..$tip"); do
        named "$commit" && continue
        carries "$commit" && block "dropped tail: branch $branch: the keep commit $commit has no row"
        block "undocumented step: branch $branch: no row explains the commit $commit"
    done
fi
for pin in $(run_git for-each-ref --format='%(refname)' "$refs/restore"); do
    commit=$(ref "$pin")
    # A keep of a campaign before this one is older than its baseline.
    [ -z "$first" ] || ! run_git merge-base --is-ancestor "$commit" "$first" || continue
    if ! named "$commit" && carries "$commit"; then
        block "dropped tail: $pin: the keep commit $commit has no row"
    fi
done
if [ ! -s "$work/restore-source" ] && [ ! -s "$work/cutover-audit" ]; then
    [ -z "$(run_git for-each-ref "$refs")" ] || block "dropped tail: there are no ledgers, but pins of the campaign"
    cannot "no campaign '$tag' in $project"
fi
require_heads() { # file, where
    grep -E '^[^[:space:]]+[[:blank:]]+-?[0-9]{1,15}:[0-9a-f]{64}[[:blank:]]*$' "$1" >"$work/lines" ||
        block "dropped tail: $2: no heads are written there"
    while read -r ledger head; do
        case $ledger in restore-source | cutover-audit) ;; *) block "dropped tail: $2: $ledger is no ledger" ;; esac
        last=$(sed -n '$s/ .*//p' "$work/$ledger")
        [ "${head%%:*}" -le "${last:--1}" ] || block "dropped tail: $2: $ledger had a row ${head%%:*}"
        holds "$ledger" "$head" "$((${last:--1} + 1))" || block "rewritten history: $2: $ledger had another row ${head%%:*}"
    done <"$work/lines"
}
for name in $(run_git for-each-ref --format='%(refname)' "$refs/heads" "$refs/outside"); do
    heads=$(ref "$name")
    rehash "$heads" "dropped tail" "$name"
    run_git cat-file blob "$heads" >"$work/heads"
    require_heads "$work/heads" "$name"
done
# Histories of heads, one commit a change: this repository's own, and those of remotes.
for name in $(run_git for-each-ref --format='%(refname)' | grep -E "^(refs/(remotes|heads)/(.*/)?autoresearch-heads/$tag|$refs/anchors)\$"); do
    for commit in $(run_git rev-list --first-parent "$name"); do
        rehash "$commit" "rewritten history" "$name"
        rehash_tree "$(tree_of "$commit")" "rewritten history" "$name"
        run_git cat-file blob "$commit:heads" >"$work/heads" || block "rewritten history: $name: $commit holds no heads"
        require_heads "$work/heads" "$name"
    done
done
[ -z "$outside" ] || require_heads "$work/anchors" anchors
printf 'PASS: complete chain: %s changes, %s keeps, back to the pinned source tree\n' "$changes" "$keeps"
