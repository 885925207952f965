# patchproof: `make vmtest` is the main job, `make test` all tests, `make help` the rest.

# Selections; see `make help`. They reach the command and the tests as environment.
export KERNELS PROGRAMS VARIANT ACCEL PIN PATCH TREE REV KERNEL_SRC JOBS COUNT CACHE

GO ?= go
PATCHPROOF := bin/patchproof
# The command itself needs no C compiler, so that it can install one.
BUILD := CGO_ENABLED=0 $(GO) build -o $(PATCHPROOF) ./cmd/patchproof

.PHONY: help
help: ## this list
	@echo 'Targets:'; sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 12 | sed 's/^/  /'; \
	echo 'Variables, also as environment:'; sed -n 's/^| `\([A-Z_]*\)`[^|]*|[^|]*| \(.*\) |$$/\1\t\2/p; s/^| `TREE`, `REV` |[^|]*| \(.*\) |$$/TREE, REV\t\1/p' README.md | expand -t 12 | sed 's/^/  /; s/`//g'

.PHONY: deps
deps: command ## install the system packages that are missing (root, apt)
	@$(PATCHPROOF) deps

.PHONY: build
build: command ## build the selected kernels
	@$(PATCHPROOF) build

.PHONY: shell
shell: command ## boot the last selected kernel with a shell
	@$(PATCHPROOF) shell

.PHONY: command
command:
	@$(BUILD)

# GNU make ends with 2 whatever a recipe returned, and with 1 only in question
# mode. So the run happens while make remakes a file that it includes, and after
# a run with an unexpected verdict that file turns question mode on.
ifneq (,$(filter vmtest,$(MAKECMDGOALS)))
ifeq (,$(findstring n,$(firstword -$(MAKEFLAGS))))
VERDICT := .verdict.$(shell echo $$PPID).mk
ifndef MAKE_RESTARTS
$(shell rm -f $(VERDICT))
$(VERDICT):
	@code=2; $(BUILD) && { $(PATCHPROOF) vmtest; code=$$?; }; \
	if [ $$code = 1 ]; then echo 'MAKEFLAGS += --question'; else echo "CODE := $$code"; fi >$@
endif
-include $(VERDICT)
ifdef MAKE_RESTARTS
$(shell rm -f $(VERDICT))
endif
endif
endif

.PHONY: vmtest
vmtest: ## the main job: fetch, build, boot, report
	@exit $(or $(CODE),2)

# Checks first, then unit tests with the race detector, then the suite on real kernels.
.PHONY: test
test: deps check unit suite ## all tests, real kernels included

.PHONY: check
check: ## formatting, vet, staticcheck, actionlint
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool actionlint

.PHONY: unit
unit: ## unit tests with the race detector
	$(GO) test -race -short ./...

.PHONY: suite
suite: ## the tests that build and boot kernels
	$(GO) test -count=1 -p 1 -timeout 60m -v ./kernel ./cmd/patchproof ./vmtest

.PHONY: clean
clean: ## remove bin/ and results/out/
	rm -rf bin results/out
