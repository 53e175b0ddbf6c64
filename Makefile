# Set-up included: the first `make demo` or `make test` makes the environment, the next only looks.
# Without make: `python -m pip install -r requirements-demo.txt`, then `python demo.py`.

PORT   ?= 7860
WEB_PORT ?= 8000
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# CONSTRAINTS=constraints.txt: the exact versions that the tests passed with.
CONSTRAINTS ?=
export CONSTRAINTS

RUN = "$(VENV)/bin/python"
# A PYTHON that somebody asked for is obeyed even where an environment of another version stands.
ASKED = $(if $(filter file,$(origin PYTHON)),,asked)
prepare = @tools/prepare.sh "$(VENV)" "$(PYTHON)" $(1) $(ASKED)

.PHONY: help demo web serve-web test test-fast torture notebook evidence flagship lint typecheck check clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo       the app at http://127.0.0.1:$(PORT) (PORT=… for another)'
	@echo 'make web        the page that needs no server, in web/dist: any static host can serve it'
	@echo 'make serve-web  the same at http://127.0.0.1:$(WEB_PORT) (WEB_PORT=… for another)'
	@echo 'make notebook   re-run the story, Expression_detect.ipynb, and keep its outputs'
	@echo 'make evidence   re-run what the numbers are worth, Expression_evidence.ipynb, in two minutes'
	@echo 'make flagship   train the network that the demo serves, from DATA=fer2013, VOTES=, MUXSPACE='
	@echo 'make test       all tests (ARGS="-k name -x" goes to pytest)'
	@echo 'make test-fast  those of tests/unit that take seconds'
	@echo 'make torture    attacks: broken files, kills, a full disk, crowds of visitors (a quarter of an hour)'
	@echo 'make lint       ruff: mistakes and layout'
	@echo 'make typecheck  mypy'
	@echo 'make check      say whether the installed packages work together'
	@echo 'make clean      remove caches; the environment $(VENV) and all results stay'
	@echo
	@echo 'The first call makes the environment $(VENV) with $(PYTHON) and installs what it needs:'
	@echo 'the demo up to 500 MB, about a minute; all others with torch, up to 7 GB, minutes.'
	@echo 'CONSTRAINTS=constraints.txt installs the exact versions that were tested.'
	@echo 'PYTHON=python3.12, VENV=folder and SMOKE=1 (the notebooks, small) are honoured.'
	@echo 'EXPRESSION_DATA=folder trains on faces of your own.'

demo:
	$(call prepare,requirements-demo.txt)
	@echo 'Demo: http://127.0.0.1:$(PORT) in a moment. Ctrl-C stops it.'
	@$(RUN) demo.py --port $(PORT)

# The page in the browser: see web/README.md. Needs npm, for ONNX Runtime Web.
web:
	$(call prepare,requirements-demo.txt)
	@tools/prepare_web.sh
	@$(RUN) -m web.build $(ARGS)

serve-web: web
	@echo 'Page: http://127.0.0.1:$(WEB_PORT). Ctrl-C stops it.'
	@$(RUN) -m http.server "$(WEB_PORT)" --bind 127.0.0.1 --directory web/dist

notebook:
	$(call prepare,requirements.txt)
	@$(RUN) tools/run_notebook.py Expression_detect.ipynb $(ARGS)

evidence:
	$(call prepare,requirements.txt)
	@$(RUN) tools/run_notebook.py Expression_evidence.ipynb $(ARGS)

# The network that the demo serves, from data alone: two wide networks of FER2013's labels; a small one
# that they teach; a wide one that this teaches, and a wide one of FER+'s votes; with those as teachers, two
# that go on from the small one with FER+'s votes and Muxspace, one on pictures as bad cameras make
# them; the mean of their weights; its answer chosen and calibrated on validation. Minutes on a GPU,
# days on two cores. Written below FLAGSHIP; what is done there is not done again, what was cut
# short goes on where it stood.
DATA     ?= fer2013
VOTES    ?= fer2013new.csv
MUXSPACE ?= facial_expressions
SEEDS    ?= 1
FLAGSHIP ?= out/expression
NAMES     = $(FLAGSHIP)/checkpoints/expression
TEACHER   = $(FLAGSHIP)/out/flagship/checkpoints/expression_wide-fer2013
LABELS    = --data "$(DATA)" --name fer2013 --out "$(FLAGSHIP)" $(ARGS)
SOURCES   = --votes "$(VOTES)" --also "muxspace=$(MUXSPACE)"
JOINED    = $(LABELS) $(SOURCES) --seeds $(SEEDS) --init-from "$(NAMES)-fer2013.safetensors" \
  --teacher "$(NAMES)_wide_taught-fer2013.safetensors,$(NAMES)_votes-fer2013.safetensors"
flagship:
	$(call prepare,requirements.txt)
	@$(RUN) experiments.py flagship expression_wide $(LABELS) --seeds 2
	@$(RUN) experiments.py flagship expression_taught $(LABELS) --seeds $(SEEDS) \
	  --teacher "$(TEACHER).safetensors,$(TEACHER)-seed1.safetensors" --to expression-fer2013
	@$(RUN) experiments.py flagship expression_wide_taught $(LABELS) --seeds 1 \
	  --teacher "$(NAMES)-fer2013.safetensors"
	@$(RUN) experiments.py flagship expression_votes $(LABELS) --votes "$(VOTES)" --seeds 1
	@$(RUN) experiments.py flagship expression_joined $(JOINED)
	@$(RUN) experiments.py flagship expression_joined_worse $(JOINED)
	@test -e "$(NAMES)_mean.safetensors" || $(RUN) experiments.py average \
	  "$(NAMES)_joined-fer2013+muxspace.safetensors" \
	  "$(NAMES)_joined_worse-fer2013+muxspace.safetensors" --shares 0.6 0.4 \
	  --data "$(DATA)" --name fer2013 $(SOURCES) --to expression_mean --out "$(FLAGSHIP)"
	@test -e "$(NAMES).safetensors" || $(RUN) experiments.py calibrate "$(NAMES)_mean.safetensors" \
	  --data "$(DATA)" --name fer2013 $(SOURCES) --to expression --out "$(FLAGSHIP)"

# Files run in parallel, the long ones first (tests/conftest.py); each process computes on one core.
# STATUS=file: pytest's exit code goes there, so that the last line is pytest's (see .ci/run).
WORKERS ?= 2
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
test:
	$(call prepare,requirements-dev.txt)
	@$(RUN) -m pytest $(ARGS) $(PARALLEL) $(if $(STATUS),; echo $$? > "$(STATUS)")

test-fast:
	$(call prepare,requirements-dev.txt)
	@$(RUN) -m pytest $(ARGS) $(PARALLEL) -m 'not slow' tests/unit

# What SECURITY.md promises, attacked: results/torture.json and results/TORTURE.md are written anew.
torture:
	$(call prepare,requirements-dev.txt)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(RUN) -m tools.torture --workers $(WORKERS) $(ARGS)

lint:
	$(call prepare,requirements-dev.txt)
	@$(RUN) -m ruff check . $(ARGS)
	@$(RUN) -m ruff format --check .

typecheck:
	$(call prepare,requirements-dev.txt)
	@$(RUN) -m mypy $(ARGS)

check:
	$(call prepare,requirements.txt)
	@$(RUN) tools/check_install.py --verbose

clean:
	@find . -name '$(VENV)' -prune -o -name .git -prune -o -type d \( -name __pycache__ \
	  -o -name .pytest_cache -o -name .ruff_cache -o -name .mypy_cache -o -name .ipynb_checkpoints \) \
	  -prune -exec rm -r {} +
	@echo 'Caches removed. The environment and out/ are kept; `rm -r $(VENV)` removes it.'
