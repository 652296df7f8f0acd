"""Assignments and marks with nbgrader: python -m minimagen.course.grading, or make assignments and make grade.

    assignment   a chapter as nbgrader's source: which cells are marked, and for how many points
    submission   what a student hands in, fitted to the assignment, whatever became of its cells
    execute      nbgrader's Execute for these notebooks: only what marks need is run, and nothing stops a class
    kernel       what stands in the kernel meanwhile: a mistake costs once
    classroom    folders, the three commands of nbgrader, result.json of each student, the table of the class

Only execute and classroom import nbgrader: pip install -e ".[teach]".
"""
