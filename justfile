# Recipes; `just` alone lists them.

default:
    @just --list

# the default tests, warnings as errors
test *ARGS:
    python -m pytest {{ARGS}}

# every test, the slow ones included
test-all:
    python -m pytest -m "slow or not slow"

# format and lint
lint:
    ruff format . && ruff check --fix .

# static types of the package and the tests
types:
    mypy && mypy tests && pyright

# hostile files, options, models and runs, faults, kills, sanitizers: two minutes, or more with --full
attack *ARGS:
    python -m attacks {{ARGS}}

# what a change must pass
ci:
    .ci/run
