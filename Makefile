# Every verb is `python3 dev.py <verb>`, which also works without make. `make test ARGS="-k circuit"` passes arguments on.
PYTHON ?= python3
VERBS := setup demo demo-images demo-pictures demo-molecules demo-space demo-chat test test-slow test-battery test-mutations lint docs bench clean ci

.DEFAULT_GOAL := help
.PHONY: help $(VERBS)

help:
	@$(PYTHON) dev.py help

$(VERBS):
	@$(PYTHON) dev.py $@ $(ARGS)
