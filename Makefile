# Everything that is done to this repository, by name: `make help`.
# Tools are Go tools pinned in tools.mod, apart from go.mod so that users of the
# module never see them.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO       ?= go
TOOL     := $(GO) tool -modfile=$(CURDIR)/tools.mod
LINT     := $(TOOL) golangci-lint run --config $(CURDIR)/.golangci.yaml
PACKAGES ?= ./...
FUZZTIME ?= 10s
WALKS    ?= 2000
CHECKS   ?= 1000
SEEDS    ?= 10000

# Sizes of the chaos tests.
CHAOS         ?= ^Test(Chaos|Outages|FrozenAtEveryPoint|PowerCuts)$$
EVENTS        ?= 20000
KILLS         ?= 40
SERVER_KILLS  ?= 5
PARTITIONS    ?= 4
PAUSES        ?= 3
OUTAGE        ?= 1m
RATE          ?= 600
CUTS          ?= 5
EVIDENCE      ?= evidence
CHAOS_TIMEOUT ?= 15m

# Of the cluster tests: how often each trouble is played.
ROUNDS          ?= 1
CLUSTER_TIMEOUT ?= 30m

# The end-to-end tests run a binary that they build, which the test cache does not see.
UNCACHED := -count=1

# Modules of their own, whose dependencies the daemon need not have; test-container and
# test-k8s have two more, which take minutes to build.
MODULES := test/compose test/k8s

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s  %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One commit, one toolchain: one binary, wherever it is built. The toolchain's stamp is off,
# since it differs between a clone and an archive; version and revision come in by name.
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null)

.PHONY: build
build: ## Build bin/meterworker, static and stripped
	CGO_ENABLED=0 GOFLAGS=-mod=readonly $(GO) build -trimpath -buildvcs=false \
		-ldflags='-s -w -X main.version=$(VERSION) -X main.revision=$(REVISION)' -o bin/meterworker ./cmd/meterworker

CA_ROOTS ?= /etc/ssl/certs/ca-certificates.crt

.PHONY: image-files
image-files: build ## Lay out in bin/image what the container image holds; with ARTEFACTS=prebuilt the Dockerfile takes it
	rm -rf bin/image
	install -D bin/meterworker bin/image/root/meterworker
	install -D -m 644 '$(CA_ROOTS)' bin/image/root/etc/ssl/certs/ca-certificates.crt
	install -D -m 644 LICENSE bin/image/root/usr/share/doc/meterworker/LICENSE
	bin/meterworker version --sbom > bin/image/root/usr/share/doc/meterworker/sbom.cdx.json
	mkdir -p bin/image/data

.PHONY: image
image: ## Build the container image meterworker:VERSION
	docker build --build-arg VERSION='$(VERSION)' --build-arg REVISION='$(REVISION)' --tag 'meterworker:$(VERSION)' .

.PHONY: test-container
test-container: ## The image and docker-compose.yml in a Docker of their own (as root, with Debian's docker.io)
	cd test/container && $(LINT) --build-tags container ./...
	cd test/container && $(GO) test $(UNCACHED) -v -timeout 30m -tags container ./...

.PHONY: test-k8s
test-k8s: ## The manifests against a real API server in the test's process (some minutes to build)
	cd test/k8sapi && $(LINT) --disable gomoddirectives ./... # Kubernetes as a library needs its replacements
	cd test/k8sapi && $(GO) test $(UNCACHED) -v -timeout 30m ./...

.PHONY: alerts
alerts: ## Alerts and dashboard: promtool's unit tests, runbook, metrics (Debian's prometheus)
	promtool check rules deploy/prometheus/alerts.yaml
	promtool test rules deploy/prometheus/alerts_test.yaml
	cd test/alerts && $(LINT) ./... && $(GO) vet ./... && $(GO) test $(UNCACHED) -timeout 10m ./...

.PHONY: browser
browser: ## The console in a real browser (Debian's chromium); screenshots in EVIDENCE
	cd test/browser && $(LINT) ./... && $(GO) vet ./... && $(GO) test $(UNCACHED) -timeout 10m ./... -evidence '$(EVIDENCE)'

.PHONY: fmt
fmt: ## Format the code and sort its imports
	$(TOOL) golangci-lint fmt

# The alerts in the form that the Prometheus operator takes.
define PROMETHEUS_RULE
{ sed '/^spec:/q' deploy/k8s/components/podmonitor/prometheusrule.yaml; sed -n '/^groups:/,$$p' deploy/prometheus/alerts.yaml | sed 's/./  &/'; }
endef

.PHONY: docs
docs: ## Write the generated pages again
	$(GO) run ./cmd/meterworker config docs > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md
	$(PROMETHEUS_RULE) > deploy/k8s/components/podmonitor/prometheusrule.yaml.new
	mv deploy/k8s/components/podmonitor/prometheusrule.yaml.new deploy/k8s/components/podmonitor/prometheusrule.yaml

ASSETS := internal/console/web/assets
STATIC := internal/console/web/static

.PHONY: assets
assets: ## Take htmx, uPlot and Pico into the console again, as package-lock.json has them (npm)
	@tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; \
	cp $(ASSETS)/package.json $(ASSETS)/package-lock.json $(ASSETS)/.npmrc "$$tmp"; \
	(cd "$$tmp" && npm ci --ignore-scripts --no-audit --no-fund); \
	node $(ASSETS)/copy.mjs "$$tmp/node_modules" '$(STATIC)'

.PHONY: assets-check
assets-check: ## Check that the console's copies are what `make assets` would write (npm)
	@tmp="$$(mktemp -d)"; trap 'rm -rf "$$tmp"' EXIT; \
	$(MAKE) --no-print-directory assets STATIC="$$tmp"; \
	for file in $$(cd "$$tmp" && find . -type f); do cmp "$$tmp/$$file" "$(STATIC)/$$file"; done

.PHONY: vet
vet: ## go vet, and nothing that gofmt would change
	$(GO) vet $(PACKAGES)
	$(GO) vet -tags chaos,faultpoints $(PACKAGES)
	@unformatted="$$(gofmt -l .)"; \
	if [[ -n "$$unformatted" ]]; then echo "gofmt would change (make fmt):"; echo "$$unformatted"; exit 1; fi

.PHONY: test
test: vet test-deploy ## Vet, then run every test
	$(GO) test $(UNCACHED) -timeout 20m $(PACKAGES)

.PHONY: test-deploy
test-deploy: ## docker-compose.yml and the manifests, without a server
	@for module in $(MODULES); do \
		echo "== $$module"; \
		(cd "$$module" && $(GO) vet ./... && $(GO) test $(UNCACHED) ./...); \
	done

.PHONY: test-race
test-race: vet ## Run every test under the race detector
	$(GO) test -race $(UNCACHED) -timeout 40m $(PACKAGES)

.PHONY: lint
lint: ## Run golangci-lint, the walls between the packages included
	$(LINT) $(PACKAGES)
	@for module in $(MODULES); do (cd "$$module" && $(LINT) ./...); done

.PHONY: fuzz
fuzz: ## Run each fuzz test for FUZZTIME (10s)
	@list="$$($(GO) test -list '^Fuzz' $(PACKAGES) | awk '/^Fuzz/ {names[n++]=$$1} /^ok/ {for (i=0;i<n;i++) print $$2, names[i]; n=0}')"; \
	if [[ -z "$$list" ]]; then echo "no fuzz tests found" >&2; exit 1; fi; \
	while read -r package name; do \
		echo "== $$package $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$package"; \
	done <<<"$$list"

.PHONY: properties
properties: ## Check each property (pgregory.net/rapid) CHECKS times (1000)
	@grep -rlF 'rapid.Check(' --include='*_test.go' . | xargs -n 1 dirname | sort -u | while read -r dir; do \
		names="$$(awk '/^func Test/ {name=$$2; sub(/\(.*/, "", name)} /rapid\.Check\(/ {print name}' "$$dir"/*_test.go | sort -u | paste -sd '|')"; \
		echo "== $$dir: $$names"; \
		$(GO) test $(UNCACHED) -run "^($$names)$$" "$$dir" -rapid.checks $(CHECKS); \
	done

.PHONY: sim
sim: ## The whole chain in virtual time, under random faults (SEEDS=10000; SEED=123 replays one), and random walks of its parts
ifdef SEED
	$(GO) test $(UNCACHED) -run '^Test(Stream)?Schedules$$' -v ./test/sim -seed $(SEED)
else
	$(GO) test $(UNCACHED) -timeout 0 -run '^TestSchedules$$' -v ./test/sim -seeds $(SEEDS)
	$(GO) test $(UNCACHED) -timeout 0 -run '^TestStreamSchedules$$' -v ./test/sim -seeds $(SEEDS)
	$(GO) test $(UNCACHED) -run '^TestSeededBugsAreCaught$$' -v ./test/sim
	$(GO) test -run '^TestRandomWalks$$' -v ./internal/journal -walks $(WALKS)
	$(GO) test -run '^TestBooks$$' -v ./internal/delivery -rapid.checks $(WALKS)
endif

.PHONY: chaos
chaos: ## Real processes: kill -9, partitions, outages, stopped workers, power cuts (as root); EVENTS, KILLS, SEED ...
	$(GO) test $(UNCACHED) -v -timeout $(CHAOS_TIMEOUT) -tags chaos -parallel 8 ./test/chaos -run '$(CHAOS)' \
		-seed $(or $(SEED),1) -events $(EVENTS) -kills $(KILLS) -server-kills $(SERVER_KILLS) -partitions $(PARTITIONS) \
		-pauses $(PAUSES) -outage $(OUTAGE) -rate $(RATE) -cuts $(CUTS) -evidence '$(EVIDENCE)'

.PHONY: campaign
campaign: ## The same for a day: a million events, a thousand kills, a hundred power cuts; the same variables
campaign: EVENTS = 1000000
campaign: KILLS = 1000
campaign: SERVER_KILLS = 100
campaign: PARTITIONS = 100
campaign: PAUSES = 60
campaign: OUTAGE = 10m
campaign: CUTS = 100
campaign: CHAOS_TIMEOUT = 24h
campaign: chaos

.PHONY: cluster
cluster: ## Three servers and three workers as processes: leader changes, kill -9, partitions, no quorum; ROUNDS (1)
	$(GO) test $(UNCACHED) -v -timeout $(CLUSTER_TIMEOUT) -tags chaos ./test/cluster -run '^Test(ClusterAtLength|TheRightCopyComesBack)$$' \
		-rounds $(ROUNDS) -evidence '$(EVIDENCE)'

# Of the benchmarks: turns of each program, and length of what is measured by time. A comma is a blank.
BENCH_ROUNDS  ?= 1
BENCH_SECONDS ?= 20
BENCHES := cost,-rounds,$(BENCH_ROUNDS) latency,-rounds,$(BENCH_ROUNDS) throughput,-rounds,$(BENCH_ROUNDS) \
	limit,-seconds,$(BENCH_SECONDS) limit,-seconds,$(BENCH_SECONDS),-replicas,3 hot,-seconds,$(BENCH_SECONDS) \
	v2,-events,300000 v2,-events,200000,-rate,10000,-alone ledger,-identifiers,1000000 ledger,-disk,-seconds,10

.PHONY: bench
bench: ## Benchmarks in short: the hot path, then processes, with one table at the end; BENCH_ROUNDS (1), BENCH_SECONDS (20)
	$(GO) test -run '^$$' -bench . -benchmem ./usage ./internal/journal ./internal/sender
	@results="$$(mktemp)"; trap 'rm -f "$$results"' EXIT; \
	for bench in $(BENCHES); do \
		echo "== $${bench//,/ }" | tee -a "$$results"; \
		$(GO) run ./bench/$${bench//,/ } | tee -a "$$results"; \
	done; \
	echo; echo "Results"; grep -E '^==| ÷ | − |requests/s' "$$results"

.PHONY: demo
demo: ## Run the whole worker against the simulator for half a minute
	$(GO) run ./cmd/meterworker demo

.PHONY: verify
verify: ## Check that generated pages and module files are up to date
	diff -u docs/configuration.md <($(GO) run ./cmd/meterworker config docs)
	diff -u deploy/k8s/components/podmonitor/prometheusrule.yaml <($(PROMETHEUS_RULE))
	$(GO) mod verify
	$(GO) mod tidy -diff
	$(GO) mod verify -modfile=tools.mod
	@for module in $(MODULES) test/alerts test/browser; do (cd "$$module" && $(GO) mod verify && $(GO) mod tidy -diff); done
