# patchproof: `make vmtest` is the main job, `make test` all tests, `make help` the rest.

# Selections; see `make help`. They reach the command and the tests as environment.
export KERNELS PROGRAMS VARIANT ACCEL PIN PATCH TREE REV KERNEL_SRC JOBS COUNT CACHE

GO ?= go
PATCHPROOF := bin/patchproof
# The command itself needs no C compiler, so that it can install one.
BUILD := CGO_ENABLED=0 $(GO) build -o $(PATCHPROOF) ./cmd/patchproof

.PHONY: help
help:
	@$(BUILD) && $(PATCHPROOF) help-make

.PHONY: deps
deps: command
	@$(PATCHPROOF) deps

.PHONY: build
build: command
	@$(PATCHPROOF) build

.PHONY: shell
shell: command
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
vmtest:
	@exit $(CODE)

# Checks first, then unit tests with the race detector, then the suite on real kernels.
.PHONY: test
test: deps check unit suite

.PHONY: check
check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):" $$unformatted; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool actionlint

.PHONY: unit
unit:
	$(GO) test -race -short ./...

.PHONY: suite
suite:
	$(GO) test -timeout 60m -v ./kernel ./vmtest

.PHONY: clean
clean:
	rm -rf bin results/out
