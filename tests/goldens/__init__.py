"""What cocabench computed and wrote at a known commit, to the digit: proof that a change of structure changed nothing.

``numbers/`` holds values, ``words/`` sentences and tables as they are printed, ``environment.json`` the machine that
made them. ``make.py`` makes and compares them, ``scenes.py`` says what is run.
"""
