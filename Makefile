# patchproof: `make vmtest` is the main job, `make test` all tests, `make help` the rest.

# make hands what is set on its command line to the recipes' environment. Which variables these were
# is told too: what was typed for this run is used or refused (docs/variables.md).
export PATCHPROOF_TYPED := $(foreach v,$(.VARIABLES),$(if $(filter command,$(firstword $(origin $v))),$v))

# With these make ends with 0 where nothing was tested, or with 1 where nothing failed. They may come
# from a MAKEFLAGS that somebody exported, or from a make around this one. It is make's own way to
# end with 1 that turns -q on below, when it starts over.
ifndef MAKE_RESTARTS
NOT_HEEDED := $(foreach f,i q t,$(if $(findstring $f,$(firstword -$(MAKEFLAGS))),-$f))
ifneq (,$(strip $(NOT_HEEDED)))
$(error with $(strip $(NOT_HEEDED)) the exit code would say nothing; leave it out, and look at MAKEFLAGS)
endif
endif

GO ?= go
# Go needs it, and a service or a cron job may have none.
ifeq (,$(HOME))
export HOME := $(shell getent passwd $$(id -u) | cut -d: -f6)
endif
PATCHPROOF := bin/patchproof
# The command itself needs no C compiler, so that it can install one.
# Nor does it need git's word on the checkout, which git refuses where somebody else owns it.
# Where memory is short Go dies with a dump of its registers, before the command could say why.
# One make at a time: where TMPDIR is another file system than the checkout's, Go copies the command
# there, and a second make would meet it half written ("Text file busy").
BUILD := { mkdir -p $(dir $(PATCHPROOF)) && \
	CGO_ENABLED=0 GOOS= GOARCH= flock $(dir $(PATCHPROOF)) $(GO) build -buildvcs=false -o $(PATCHPROOF) ./cmd/patchproof || \
	{ [ "$$(ulimit -v)" = unlimited ] || echo "patchproof: a process here may have at most $$(ulimit -v) KiB of memory" \
	"(ulimit -v), and the compiler takes up to 2000000; if that is why, raise it" >&2; false; }; }

.PHONY: help
help: ## this list
	@echo 'Targets:'; sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | $(COLUMNS_OF) at=16; \
	echo 'Variables, also as environment:'; \
	sed -n 's/^| `\([A-Z_]*\)` |[^|]*|[^|]*| \(.*\) |$$/\1\t\2/p' docs/variables.md | tr -d '`' | $(COLUMNS_OF) at=13

# COLUMNS_OF prints a name and its text a line, folded to 96 columns.
COLUMNS_OF := awk '{ n = split($$0, word); line = "  " word[1]; while (length(line) < at) line = line " "; \
	for (i = 2; i <= n; i++) { if (length(line " " word[i]) > 96) { print line; line = ""; while (length(line) < at) line = line " " } \
	line = line " " word[i] } print line }'

# Targets that end as their command does: 0, 1 or 2.
CAMPAIGNS := vmtest bench mutants bisect bisect-config patchcheck ready
# GNU make ends with 2 whatever a recipe returned, and with 1 only in question
# mode. So the run happens while make remakes a file that it includes, and after
# a run with an unexpected verdict that file turns question mode on.
CAMPAIGN := $(filter $(CAMPAIGNS),$(MAKECMDGOALS))
ifneq (,$(CAMPAIGN))
ifneq (,$(word 2,$(CAMPAIGN)))
$(error one at a time: $(CAMPAIGN))
endif
ifeq (,$(findstring n,$(firstword -$(MAKEFLAGS))))
VERDICT := .verdict.$(shell echo $$PPID).mk
ifndef MAKE_RESTARTS
# One whose make was killed stays behind.
$(shell for f in .verdict.*.mk; do p=$${f#.verdict.}; [ -e "/proc/$${p%.mk}" ] || rm -f "$$f"; done; rm -f $(VERDICT))
$(VERDICT):
	@code=2; $(BUILD) && { $(PATCHPROOF) $(CAMPAIGN); code=$$?; }; \
	if [ $$code = 1 ]; then echo 'MAKEFLAGS += --question'; else echo "CODE := $$code"; fi >$@
endif
-include $(VERDICT)
ifdef MAKE_RESTARTS
$(shell rm -f $(VERDICT))
endif
endif
endif

.PHONY: $(CAMPAIGNS)
vmtest: ## the main job: fetch, build, boot, report
bench: ## measure: instructions, or time, per operation on each kernel, and where they differ
mutants: ## break the kernel on purpose, a patch at a time, and say which programs notice
bisect: ## find the patch or commit that a failure began with; without variables, a demonstration
bisect-config: ## find the config options that make BAD fail where GOOD passes
patchcheck: ## check each patch of PATCH by itself: does it build, and do compiler and checkers say anything new
ready: ## say whether PATCH is fit to be sent: its mails (subjects, threading, names), and each patch builds and boots
$(CAMPAIGNS):
	@exit $(or $(CODE),2)

.PHONY: deps
deps: command ## install the system packages that are missing (root, apt)
	@$(PATCHPROOF) deps

.PHONY: build
build: command ## build the selected kernels
	@$(PATCHPROOF) build

.PHONY: apply
apply: command ## apply PATCH in a work tree (WORK), and stop where it needs hand work; run it again to go on
	@$(PATCHPROOF) apply

.PHONY: refresh
refresh: command ## write the patches of that work tree as mails
	@$(PATCHPROOF) refresh

.PHONY: shell
shell: command ## boot the last selected kernel with a shell
	@$(PATCHPROOF) shell

.PHONY: results
results: command ## list the runs, the newest first
	@$(PATCHPROOF) results ls

.PHONY: report
report: command ## write report.html of the latest run, or RUN, and print its path
	@$(PATCHPROOF) results report $(RUN)

.PHONY: bundle
bundle: command ## pack kernels and programs for a real machine
	@$(PATCHPROOF) bundle

.PHONY: command
command:
	@$(BUILD)

.PHONY: reply
reply: command ## the latest run, or RUN, as a reply to the mail with the patches
	@$(PATCHPROOF) results reply $(RUN)

.PHONY: summary
summary: command ## the latest run, or RUN, in Markdown, for a CI job's summary
	@$(PATCHPROOF) results summary $(RUN)

.PHONY: reference
reference: command ## keep the latest run, or RUN, as the reference of its subject
	@$(PATCHPROOF) results reference $(RUN)

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
	$(GO) test -race -short -timeout 30m ./...

# The kernels of the debug variant, which take minutes, are built with what the tests of the plain
# one leave of the processors: in many of these, and in most of the command's, a guest waits. That
# comes after the tests of ./kernel, which keep both busy, and fails where it is needed. What must
# wait for it to end comes last: ./vmtest/bench builds a kernel of its own. The RFC comes after
# what builds on base, since it changes a header that 262 objects include.
# What takes long of make unit is not run again.
.PHONY: suite
suite: deps ## the tests that build and boot kernels, and those with a browser
	$(GO) test -count=1 -timeout 60m -v ./kernel -run 'TestReal|TestForks'
	$(MAKE) -j 2 suite-plain suite-debug-kernels
	VARIANT=debug $(GO) test -count=1 -timeout 60m -v ./vmtest -run "TestSuite|TestDebugKernelComplains"

.PHONY: suite-plain suite-debug-kernels
suite-plain:
	MAKEFLAGS= MFLAGS= $(GO) test -count=1 -parallel 4 -timeout 60m -v ./vmtest
	MAKEFLAGS= MFLAGS= $(GO) test -count=1 -p 1 -timeout 60m -v -skip '^TestScripts$$/^script$$' ./vmtest/console ./results/html ./cmd/patchproof ./vmtest/bench
suite-debug-kernels:
	-KERNELS=base,patched PATCH=vmtest/testdata/splats.patch VARIANT=debug chrt --idle 0 $(PATCHPROOF) build
	-KERNELS=posted VARIANT=debug chrt --idle 0 $(PATCHPROOF) build

.PHONY: fresh
fresh: ## the README's two commands in a new Debian 13 (SUITE), from cold; needs root and debootstrap
	@.ci/fresh

.PHONY: faults
faults: deps ## break the harness and its host on purpose; writes docs/faults.md
	FAULTS=all FAULTS_TABLE=$(CURDIR)/docs/faults.md $(GO) test -count=1 -timeout 60m -v ./cmd/patchproof -run 'TestFaults|TestScripts/slow'

.PHONY: soak
soak: export SOAK ?= 500
soak: deps ## SOAK cells in a row, 500 by default: nothing may grow; for a machine with nothing else to do
	$(GO) test -count=1 -timeout 6h -v ./cmd/patchproof -run TestSoak

.PHONY: scale
scale: deps command ## hold the simulation of docs/scale.md against 1, 2 and 4 workers; for a machine with nothing else to do
	SCALE=1 $(GO) test -count=1 -timeout 3h -v ./cmd/patchproof -run TestScaleMeasured

.PHONY: clean
clean: ## remove bin/ and results/out/
	rm -rf bin results/out
