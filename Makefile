# What a newcomer needs: make run, make demo, make test. `make help` lists the rest.
TOOL := go tool -modfile=tools/go.mod
FUZZTIME ?= 5s
DURATION ?= 10m
SEED ?= 0
NODES ?= 3
RACE := . ./actors/... ./client/... ./cluster/... ./http/... ./internal/... ./persistence/... ./usersig/... ./vendors/...

.DEFAULT_GOAL := help
.PHONY: help build run demo cluster test race chaos lint proto fuzz bench

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/crier
	go build -o bin/crier ./cmd/crier

run: build ## build and run a node with a demo app, in ./data
	bin/crier serve --demo

demo: build ## play the stories against the node of `make run`, and judge who got what
	bin/crier demo

cluster: build ## run three nodes on this machine, in ./data-1 to ./data-3; Ctrl-C stops them
	tools/cluster bin/crier

test: ## run every test
	go test -timeout 15m ./...

race: ## run the tests of what is concurrent with the race detector
	go test -race -timeout 20m $(RACE)

chaos: ## break NODES nodes, their disks and network for DURATION, as SEED has it (0: any), by FAULTS (all), and check what Crier promises
	go test ./test/cluster -run TestChaos -count 1 -v -timeout 0 -chaos-duration $(DURATION) -chaos-seed $(SEED) -chaos-nodes $(NODES) -chaos-faults "$(FAULTS)"

lint: ## check formatting and style
	$(TOOL) golangci-lint run --timeout 20m ./...

proto: ## generate the protobuf code anew, and check the schemas
	$(TOOL) buf generate
	$(TOOL) buf lint

fuzz: ## fuzz every decoder, FUZZTIME each
	@set -e; for p in $$(go list ./...); do \
		dir=$$(go list -f '{{.Dir}}' $$p); \
		for f in $$(cat /dev/null $$dir/*_test.go 2>/dev/null | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' | sort -u); do \
			echo "fuzz $$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done

bench: build ## measure against raw limits, and write docs/benchmarks.md (minutes)
	bin/crier bench --report docs/benchmarks.md
