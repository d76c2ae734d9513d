"""A job of attacks, outside the tests: hostile files, options, models and runs, faults, kills, sanitizers.

    python -m attacks              two minutes, as in continuous integration
    python -m attacks --full       some hours, for a night
    python -m attacks kills runs   some of them; --seconds N for each

Ends with 1 when an input led to a traceback, a crash, a hang or a loss; the inputs are then kept.
"""
