# Holdfast: build, test, show. `make help` lists what there is.
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty=+dirty 2>/dev/null | sed 's/^v//' | grep . || echo unknown)
LDFLAGS  = -s -w -X main.version=$(VERSION)

# With a C compiler: libzstd, still one static file. Without: pure Go, the same bytes to read, a slower encoder.
ifneq ($(shell command -v $${CC:-cc} 2>/dev/null),)
  export CGO_ENABLED := 1
  TAGS   := libzstd,netgo,osusergo
  STATIC := -linkmode external -extldflags -static
  KIND   := static, libzstd through $(shell command -v $${CC:-cc})
else
  export CGO_ENABLED := 0
  TAGS   := netgo,osusergo
  STATIC :=
  KIND   := static, pure Go (no C compiler found: the zstd encoder is slower)
endif
export TAGS GO VERSION

.PHONY: help build initbin pam tape-key demo test test-short lint fmt fuzz torture bench bench-serve bench-tree bench-server bench-guest bench-files bench-tape bench-volume bench-bucket bench-collection bench-quick bench-peers release deb man docs tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: initbin ## bin/holdfast for this machine: one static file
	@echo "holdfast $(VERSION): $(KIND)"
	@$(GO) build -trimpath -tags '$(TAGS),initbin' -ldflags '$(LDFLAGS) $(STATIC)' -o bin/holdfast ./cmd/holdfast

# What restore machines start with, for both kinds of processors; it becomes a part of bin/holdfast.
INITBIN = internal/filerestore/vm/initbin/init
initbin:
	@for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -tags netgo,osusergo -ldflags '-s -w' -o $(INITBIN)-$$arch ./internal/filerestore/vm/initprog && \
		gzip -9nf $(INITBIN)-$$arch; done

pam: ## bin/holdfast-pam: checks passwords of this machine's users for the server (Linux)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/holdfast-pam ./cmd/holdfast-pam

tape-key: ## bin/holdfast-tape-key: puts keys of tapes into drives for the server (Linux)
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/holdfast-tape-key ./cmd/holdfast-tape-key

demo: build ## a guided tour on a real ext4 image, about half a minute
	@test/demo/run bin/holdfast

test: ## everything: vet, format, linters, tests, independent check, benchmark smoke test, demo
	@test/run all

test-short: ## vet, format and the short tests
	@test/run short

lint: ## vet, gofumpt, staticcheck, depguard
	@test/run lint

fmt: tools ## rewrite the source with gofumpt
	@bin/tools/gofumpt -w cmd internal bench test

FUZZTIME ?= 30s
fuzz: ## every fuzz target for FUZZTIME (30s)
	@test/fuzz $(FUZZTIME)

POINTS ?= 1000000
SEED   ?= $(shell date +%s)
SCHEDULES ?= 20000
HOSTS     ?= 100000
HISTORIES ?= 10000
KILLTIME  ?= 5m
ROUNDS    ?= 10000
TREEKILLS ?= 60
REQUESTS  ?= 1000000
CARTRIDGES ?= 100000
FAULTS    ?= 5000
CATALOGS  ?= 500
torture: build ## POINTS (1000000) random crash points from SEED, interleaved processes, HOSTS (100000) schedules of hosts that share a bucket, HISTORIES (10000) of collections there, mappings made and ended, a server flooded, sessions with a failing tape drive, cartridges and catalogs whose disk loses its power, then kill -9 on the real binary
	@echo "torture: $(POINTS) crash points, seed $(SEED)"
	@mkdir -p bin
	@$(GO) test -count=1 -timeout 0 -tags '$(TAGS)' -v -run 'Crash|PowerCut' ./internal/datastore -args -crash-points $(POINTS) -crash-seed $(SEED) | tee bin/torture.log
	@grep -q '[0-9] crash points, seed $(SEED)' bin/torture.log || { echo "torture: no crash points were tried"; exit 1; }
	@test/torture/kill9 bin/holdfast $(SEED)
	@$(GO) test -count=1 -timeout 0 -tags '$(TAGS)' -v -run OperationsOf ./internal/datastore -args -schedules $(SCHEDULES) -schedule-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -v -run AnySchedule ./internal/ledger -args -schedules $(HOSTS) -schedule-seed $(SEED)
	@GOGC=1000 $(GO) test -count=1 -timeout 0 -tags '$(TAGS)' -v -run AnySchedule ./test/bucketsim -args -schedules $(HOSTS) -schedule-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -run Histories ./internal/repo/bucket/collect -args -histories $(HISTORIES) -history-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -v -run Rounds ./internal/mapping -args -rounds $(ROUNDS)
	@$(GO) test -count=1 -timeout 0 -run Crash ./internal/scsi/vtl/cartridge -args -crash-rounds $(CARTRIDGES) -crash-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -v -run RandomFaults ./internal/tape/lto -args -fault-rounds $(FAULTS) -fault-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -run PowerCut ./internal/tape/media -args -crash-seeds $(CATALOGS) -crash-seed $(SEED)
	@$(GO) test -count=1 -timeout 0 -v -run Flood ./test/torture -args -requests $(REQUESTS) -holdfast $(CURDIR)/bin/holdfast
	@$(GO) test -count=1 -timeout 0 -v -run Kill ./test/torture -args -kill-time $(KILLTIME) -kill-seed $(SEED) -holdfast $(CURDIR)/bin/holdfast
	@$(GO) test -count=1 -timeout 0 -v -run Killed ./test/trees -args -kill-rounds $(TREEKILLS) -kill-seed $(SEED) -holdfast $(CURDIR)/bin/holdfast

BENCHFLAGS ?=
bench: build ## 8 GiB image, five rounds, beside restic, borg, kopia, qemu-img and cp; writes docs/benchmarks.md
	@$(GO) build -o bench/work/bench ./bench && bench/work/bench -holdfast bin/holdfast $(BENCHFLAGS)

bench-serve: build ## random and sequential reads of a backup beside nbdkit and qemu-nbd; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/serve ./bench/serve && bench/work/serve -holdfast bin/holdfast $(BENCHFLAGS)

bench-tree: build ## a directory tree beside restic, borg, kopia and tar, restored and mounted; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/trees ./bench/tree && bench/work/trees -holdfast bin/holdfast $(BENCHFLAGS)

bench-server: build ## a backup server beside a local repository, and over a line with delay; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/bench ./bench && $(GO) build -o bench/work/server ./bench/server
	@bench/work/server -holdfast bin/holdfast -bench bench/work/bench $(BENCHFLAGS)

bench-guest: build ## what a backup costs a running guest, and how fast it is; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/guest ./bench/guest && bench/work/guest -holdfast bin/holdfast $(BENCHFLAGS)

bench-files: build ## files out of disk images, beside a mount and guestfish; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/files ./bench/files && bench/work/files -holdfast bin/holdfast $(BENCHFLAGS)

bench-volume: build ## volumes refilled after a day beside a restore in place; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/volume ./bench/volume && bench/work/volume -holdfast bin/holdfast $(BENCHFLAGS)

bench-tape: ## what is known of tapes: catalogs of a million chunks; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/tape ./bench/tape && bench/work/tape $(BENCHFLAGS)

bench-bucket: build ## repositories in an object store beside restic and kopia, near and far; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/bench ./bench && $(GO) build -o bench/work/bucket ./bench/bucket
	@bench/work/bucket -holdfast bin/holdfast -bench bench/work/bench $(BENCHFLAGS)

bench-collection: ## garbage collections in a bucket with a million chunks and 10,000 snapshots; writes its part of docs/benchmarks.md
	@$(GO) build -o bench/work/collection ./bench/collection && bench/work/collection $(BENCHFLAGS)

bench-quick: build ## the benchmark's own smoke test on a small image; writes nothing under docs
	@$(GO) build -o bench/work/bench ./bench && bench/work/bench -holdfast bin/holdfast -quick $(BENCHFLAGS)

bench-peers: ## build restic and kopia, install borg and qemu-img (Debian, root), for make bench
	@bench/peers/install

release: ## dist/: static linux amd64 and arm64 with checksums; checks that clients compile elsewhere
	@deploy/release

deb: ## dist/*.deb for this machine's architecture
	@deploy/deb/build

man: build ## dist/holdfast.1, the manual page
	@mkdir -p dist && bin/holdfast man >dist/holdfast.1 && echo dist/holdfast.1

docs: ## write anew what the documentation shows of the program; look at the difference
	@$(GO) test -count=1 ./test/docs -update

tools: ## bin/tools: staticcheck, golangci-lint, gofumpt in the versions of tools/go.mod
	@mkdir -p bin/tools && CGO_ENABLED=0 $(GO) -C tools build -o ../bin/tools/ tool

clean: ## remove what was built; keeps bench/work (make clean-bench removes it)
	@rm -rf bin dist

.PHONY: clean-bench
clean-bench: ## remove the benchmark's images and repositories
	@rm -rf bench/work
