"""
Self-tests of gates: violations are planted in a clone of the project, and each must make its gate fail.

A gate that never fails protects nobody, and one that always fails stops everybody; neither shows in daily use.
"""
