# Two commands: `make lab` opens the course, `make test` runs every test.
# Each sets up .venv on its first run, the tests with more in it; after that, nothing here needs a network.

BIN := .venv/bin
CONSTRAINTS ?= constraints.txt

# The first of these that is new enough and has venv is used; `make PYTHON=… lab` names another.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),python3 python3.13 python3.12 python3.11 python3.10 python)

# A prompt may hold quotes, dollars, anything: it reaches the shell through the environment,
# never through the text of a recipe, and $(value …) keeps make from expanding it.
override PROMPT := $(value PROMPT)
override OUT := $(if $(filter command,$(origin OUT)),$(value OUT))
ifneq ($(filter draw train,$(MAKECMDGOALS)),)
export PROMPT OUT
endif

OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1

ifneq ($(filter draw,$(MAKECMDGOALS)),)
ifeq ($(strip $(PROMPT)),)
$(error Say what to draw: make draw PROMPT="a cat on the grass")
endif
endif

ifneq ($(filter train,$(MAKECMDGOALS)),)
ifeq ($(strip $(STAGE)),)
$(error Say which stage to train, and how long: make train STAGE=base ARGS="--minutes 30" (or sr64, or sr256))
endif
endif

ifneq ($(filter grade,$(MAKECMDGOALS)),)
ifneq ($(origin FROM),command line)
$(error Say what was handed in: make grade FROM=folder (in it a folder for each student))
endif
endif

.PHONY: help lab draw test test-slow test-gpu test-colab colab-versions train data site notebooks editions diagrams slides badges bundle assignments grade clean

help:
	@echo 'make lab                           open the course in JupyterLab'
	@echo 'make draw PROMPT="a cat"           draw it (OUT=cat.png, ARGS="--count 4 --seed 1")'
	@echo 'make test                          run the tests, notebooks included'
	@echo 'make test-slow                     run all tests, the slow ones too, and report the coverage'
	@echo 'make test-gpu                      run the tests and notebooks on a CUDA device (NOTEBOOKS="03 09 --jobs 2")'
	@echo "make test-colab                    run notebooks in Colab's versions (ALL=1: every notebook)"
	@echo 'make train STAGE=base ARGS="--minutes 30"   train a stage into runs/base (or OUT=…)'
	@echo 'make data                          rebuild the sprites and tables in data/'
	@echo 'make notebooks                     run the notebooks and save their outputs (NB=FILE for one)'
	@echo 'make editions                      make the learner'"'"'s notebooks from the complete ones in notebooks/solutions'
	@echo 'make diagrams                      redraw the diagrams, with the numbers of the shipped cascade, in the notebooks too'
	@echo 'make slides                        a talk for each chapter, in slides/ (CHAPTERS="01 08")'
	@echo 'make assignments                   notebooks to give out, for nbgrader, in grades/release'
	@echo 'make grade FROM=handed-in          marks, a table of the class and feedback in grades/ (ARGS="--jobs 4 --chapters 01 02")'
	@echo 'make badges REPO=owner/name        links that open the notebooks on Colab, Kaggle, Binder'
	@echo 'make bundle                        archives in dist/ that set the course up without a network'
	@echo 'make site                          make the web page of the course: build/site/index.html'
	@echo 'make clean                         remove caches; .venv and runs/ stay'

lab: .venv/.done
	@$(BIN)/python -m minimagen.course.start $(ARGS)

draw: .venv/.done
	@$(BIN)/minimagen draw --out "$${OUT:-out.png}" $(ARGS) -- "$$PROMPT"

# Several tests at a time, a core each; ARGS="-n 0" runs one after the other.
test: .venv/.test
	@$(OFFLINE) MINIMAGEN_BUDGET=quick OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-slow: .venv/.test
	@$(OFFLINE) MINIMAGEN_BUDGET=quick $(BIN)/python -m coverage run -m pytest -m 'not gpu' $(ARGS)
	@$(BIN)/python -m coverage report

test-gpu: .venv/.test
	@$(BIN)/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else \
	"No CUDA device here, and make test-gpu needs one; make test runs without.")'
	@$(OFFLINE) $(BIN)/python -m pytest -m 'not slow and not browser' --deselect tests/course/test_notebooks.py::test_it_runs $(ARGS)
	@$(OFFLINE) MINIMAGEN_BUDGET=gpu $(BIN)/python tests/gpu/run_notebooks.py $(NOTEBOOKS)

# Exits with 2 where there is no Python as Colab's, or no network for the first set-up.
test-colab:
	@python3 tests/colab/twin.py $(if $(ALL),--all) $(ARGS)

# make colab-versions FROM=FOLDER, which has pip-freeze.gpu.txt and os-info-gpu.txt as Colab publishes them
FROM ?= .
colab-versions:
	@python3 tests/colab/versions.py '$(FROM)/pip-freeze.gpu.txt' '$(FROM)/os-info-gpu.txt' $(ARGS)

train: .venv/.done
	@$(BIN)/minimagen train '$(STAGE)' --out "$${OUT:-runs/$(STAGE)}" $(ARGS)

# Needs npm, and a network the first time: the packages stay in .cache/packages.
data: .venv/.data
	@$(BIN)/python data/build/sprites.py --packages .cache/packages --out data/scenes

# The complete editions: the learner's are made from these.
NB ?= $(sort $(wildcard notebooks/solutions/[0-9]*.ipynb))

notebooks: .venv/.test
	@set -e; for notebook in $(NB); do \
	  MINIMAGEN_BUDGET=$${MINIMAGEN_BUDGET:-laptop} $(BIN)/jupyter-nbconvert \
	    --to notebook --execute --inplace \
	    --ExecutePreprocessor.store_widget_state=False \
	    --ExecutePreprocessor.record_timing=False "$$notebook"; \
	  $(BIN)/python notebooks/tidy.py "$$notebook"; \
	done
	@$(BIN)/python -m minimagen.course.editions

# The complete edition, in notebooks/solutions, is the source of the learner's, for chapters that are switched over.
editions: .venv/.test
	@$(BIN)/python -m minimagen.course.editions

diagrams: .venv/.test
	@$(BIN)/python notebooks/diagrams/draw.py
	@$(BIN)/python notebooks/diagrams/embed.py

# The complete editions as a site that needs no network; nothing is run. Each chapter leads to its talk, where `make slides`
# has made it. ARGS="--chapters 00 03 --strict"
site: .venv/.site
	@$(BIN)/python notebooks/site/build.py $(ARGS)

# The talks: one HTML file a chapter, which needs nothing else.
slides: .venv/.test
	@$(BIN)/python -m notebooks.slides $(CHAPTERS)

badges:
	@python3 notebooks/badges.py '$(REPO)'

# SYSTEMS="linux windows macos"; PYTHON_VERSION is the oldest that learners have; wheels are looked for in WHEELS first;
# TORCH_INDEX has CPU builds of torch for Linux.
bundle: .venv/.done
	@if [ -e .venv/.test ]; then $(MAKE) --no-print-directory slides; fi
	@if [ -e .venv/.site ]; then $(MAKE) --no-print-directory site; fi
	@$(BIN)/python notebooks/bundle/make.py $(SYSTEMS) $(if $(PYTHON_VERSION),--python $(PYTHON_VERSION)) \
	  $(if $(WHEELS),--wheels '$(WHEELS)') $(if $(TORCH_INDEX),--torch-index '$(TORCH_INDEX)')

# For teachers: notebooks/GRADING.md. TO is nbgrader's folder.
TO ?= grades

assignments: .venv/.teach
	@$(BIN)/python -m minimagen.course.grading assignments --to '$(TO)' $(ARGS)

grade: .venv/.teach
	@$(BIN)/python -m minimagen.course.grading grade '$(FROM)' --to '$(TO)' $(ARGS)

# A learner without a network could not get .venv back, nor their training in runs/: both stay.
clean:
	@rm -rf .pytest_cache .ruff_cache .mypy_cache build *.egg-info out.png
	@find minimagen data tests notebooks -name __pycache__ -o -name .ipynb_checkpoints 2>/dev/null \
	  | while IFS= read -r folder; do rm -rf "$$folder"; done

# The set-up, once, and again only when one of these two files changes: to learn and to draw (.done),
# with what the tests and the making of the notebooks need (.test), with what a teacher needs (.teach).
.venv/.done: EXTRAS := lab
.venv/.test: EXTRAS := lab,test
.venv/.teach: EXTRAS := lab,teach
.venv/.done .venv/.test .venv/.teach: pyproject.toml constraints.txt
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  found=; bare=; \
	  for python in $(PYTHONS); do \
	    "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 || continue; \
	    if "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then found=$$python; break; fi; \
	    bare=$$python; \
	  done; \
	  if [ -z "$$found$$bare" ]; then \
	    echo "Python 3.10 or newer is needed, and none was found: install it, or name it: make PYTHON=/path/to/python3 lab" >&2; exit 1; \
	  elif [ -z "$$found" ]; then \
	    echo "Python's venv module is missing: on Debian or Ubuntu run: sudo apt install python3-venv" >&2; exit 1; \
	  fi; \
	  "$$found" -m venv --clear .venv || exit 1; \
	fi
	@echo "Setting up .venv: a few minutes, once" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[$(EXTRAS)]" || \
	  { echo "The set-up did not finish. It needs a network this one time; run the same command again." >&2; exit 1; }
	@touch .venv/.done $@

.venv/.data: .venv/.done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[data]"
	@touch $@

.venv/.site: .venv/.done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[site]"
	@touch $@
