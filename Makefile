# Go fetches the toolchain that go.mod asks for, through the module proxy.
export GOTOOLCHAIN := auto

BIN := $(CURDIR)/bin
LOCALCLUSTER := $(BIN)/localcluster
TOOL = go tool -modfile=tools/go.mod

# What the local cluster and the tests on it find, wherever they are started.
export LOCALCLUSTER

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: build helm localcluster ## The main job on an embedded local cluster: nodes break, Karpenter replaces them
	@$(BIN)/demo $(DEMO_FLAGS)

.PHONY: test
test: packages helm test-unit test-machine test-images test-localcluster test-cluster ## All tests

.PHONY: test-unit
test-unit: ## Tests that need neither a cluster nor a machine to break (seconds, once compiled)
	@echo "==> unit tests (the first run compiles Karpenter's packages: a few minutes)"
	@LOCALCLUSTER= go test -short $$(go list ./... | grep -vE '$(MACHINE_TESTS)')

.PHONY: test-machine
test-machine: ## Tests that break this machine in namespaces, cgroups and loop devices of their own (as root, about a minute)
	@echo "==> tests on this machine: its kernel log, links, filesystems, processes, services (about a minute)"
	@LOCALCLUSTER= go test -p 1 $$(go list ./... | grep -E '$(MACHINE_TESTS)')

# Packages whose tests make real faults; one at a time, since they share the machine.
MACHINE_TESTS = /pkg/host(/|$$)|/pkg/detector/node$$|/test/machine$$

.PHONY: packages
packages: ## Install the Debian packages that tests make faults with, where they are missing
	@missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -z "$$missing" ]; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "==> installing" $$missing; \
		apt-get update -qq && { [ -e $(POLICY) ] || { printf '#!/bin/sh\nexit 101\n' >$(POLICY); chmod +x $(POLICY); trap 'rm -f $(POLICY)' EXIT; }; } && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null && \
		case " $$missing " in *" prometheus "*) systemctl disable -q prometheus.service || true;; esac; \
	else \
		echo "==> not installed, so the tests that need them will be skipped:" $$missing; \
	fi

# Asked by the packages' own scripts whether to start what they install: the tests start what they need themselves, and
# Debian's Prometheus would serve on a port of this machine, now and after each boot.
POLICY = /usr/sbin/policy-rc.d

# Real filesystems, firewall rules, containerd, D-Bus, a real journal, a real Prometheus.
PACKAGES = iproute2 xfsprogs e2fsprogs squashfs-tools mount nftables iptables containerd runc containernetworking-plugins dbus systemd systemd-journal-remote prometheus

.PHONY: test-images
test-images: ## Tests of the images: the same bytes twice, both architectures, materials
	@echo "==> tests of the images (the first time compiles the agent for arm64: about 2 minutes on two cores)"
	@cd tools/image && go test -count=1 -timeout 25m ./...

.PHONY: test-localcluster
test-localcluster: localcluster ## Tests of tools/localcluster itself
	@echo "==> tests of the local cluster"
	@cd tools/localcluster && go test ./...

.PHONY: test-cluster
test-cluster: ARCH = $(shell go env GOARCH)
test-cluster: IMAGES = controller agent pause
test-cluster: build helm localcluster images ## Tests on a real control plane, beside an unmodified Karpenter
	@echo "==> tests on the local cluster (about 40 minutes on two cores)"
	@$(TOOL) gotestsum --format testname --hide-summary=output -- -p 1 -parallel 6 -timeout 25m $(TEST_FLAGS) $(CLUSTER_TESTS)

# Packages whose tests start a local cluster; one at a time, since each wants both cores.
CLUSTER_TESTS = $(shell grep -rlE 'localcluster|test/cluster"' --include=*_test.go pkg test | xargs -n1 dirname | sort -u | sed 's|^|./|')

.PHONY: test-compat
test-compat: build helm localcluster ## Beside Karpenter 1.12 and 1.9 as well
	@echo "==> building Karpenter $(OLDER) (the first time: 1.5 minutes each on two cores)"
	@for v in $(OLDER); do (cd tools/karpenter-$$v && \
		go build -buildvcs=false -ldflags "-s -w -X sigs.k8s.io/karpenter/pkg/operator.Version=$$(go list -m -f '{{slice .Version 1}}' sigs.k8s.io/karpenter)" \
			-o $(BIN)/karpenter-$$v sigs.k8s.io/karpenter/kwok) || exit 1; done
	@$(TOOL) gotestsum --format testname --hide-summary=output -- -timeout 20m -run Older ./test/e2e

# Versions of Karpenter, as tools/karpenter-VERSION pins them.
OLDER = 1.12 1.9

.PHONY: bench
bench: build helm localcluster ## Measure speed and size, beside stock Karpenter in the same run
	@$(BIN)/bench $(BENCH_FLAGS)

.PHONY: build
build: ## Build the controller, the agent and the programs of the tests into bin/
	@echo "==> building the controller and the agent (the first time compiles Karpenter's packages: a few minutes)"
	@mkdir -p $(BIN)
	@go build -o $(BIN)/ ./cmd/controller ./cmd/controller-aws ./cmd/karpenter-aws ./test/demo ./test/bench ./test/inside/karpenter-with-method
	@CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o $(BIN)/ ./cmd/agent ./cmd/kubectl-autorepair

.PHONY: plugin
plugin: ## Build kubectl-autorepair for every platform of .krew.yaml into bin/plugin/
	@for p in $(PLATFORMS); do \
		echo "==> kubectl-autorepair for $$p"; dir=$(BIN)/plugin/$$p; mkdir -p $$dir && cp LICENSE $$dir && \
		CGO_ENABLED=0 GOOS=$${p%_*} GOARCH=$${p#*_} go build -trimpath -ldflags "-s -w -X github.com/autorepair-sh/karpenter-autorepair/pkg/version.release=$(VERSION)" -o $$dir/ ./cmd/kubectl-autorepair && \
		tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -czf $(BIN)/plugin/kubectl-autorepair_$$p.tar.gz -C $$dir . || exit 1; \
	done

# Platforms of the kubectl plugin, as in .krew.yaml.
PLATFORMS = linux_amd64 linux_arm64 darwin_amd64 darwin_arm64 windows_amd64
VERSION = $(shell git describe --tags --always --dirty)

.PHONY: images
images: ## Build the container images into bin/images/: make images VERSION=v1.2.3 IMAGES="controller agent" ARCH=amd64
	@echo "==> building images (the first time compiles all for each architecture: about ten minutes on two cores)"
	@cd tools/image && go run . --root=../.. --out=$(BIN)/images $(if $(filter command environment,$(origin VERSION)),--version=$(VERSION)) $(if $(ARCH),--arch=$(ARCH)) $(IMAGES)

.PHONY: helm
helm: ## Build Helm, by which the tests render and install the charts
	@echo "==> building Helm (the first time compiles it: about 3 minutes on two cores)"
	@mkdir -p $(BIN)
	@go build -modfile=tools/go.mod -trimpath -ldflags "-s -w" -o $(BIN)/helm helm.sh/helm/v4/cmd/helm

.PHONY: localcluster
localcluster: ## Build the local cluster: etcd, Kubernetes, kwok, an unmodified Karpenter
	@echo "==> building the local cluster (the first time compiles Kubernetes: about 6 minutes on two cores)"
	@mkdir -p $(BIN)
	@cd tools/localcluster && go build -o $(LOCALCLUSTER) .

.PHONY: generate
generate: ## Regenerate CRDs, deepcopy, the reason catalogue, the schemas and READMEs of the charts, the IAM policy
	@go generate ./pkg/...
	@$(TOOL) controller-gen object paths=./pkg/apis/... crd output:crd:dir=pkg/apis/crds
	@rm -f charts/autorepair-crd/files/*.yaml && cp pkg/apis/crds/*.yaml charts/autorepair-crd/files/
	@go run ./charts/internal/schema charts/autorepair charts/autorepair-crd
	@go run ./cmd/controller-aws iam-policy > docs/iam-policy.json
	@$(TOOL) helm-docs --log-level=error --chart-search-root=charts --sort-values-order=file

.PHONY: lint
lint: ## Run the linters
	@echo "==> linting (the first time builds golangci-lint: some minutes)"
	@$(GOLANGCI_LINT) run ./...
	@$(GOLANGCI_LINT) run -c .golangci-api.yaml ./pkg/apis/...
	@cd tools/localcluster && $(LINT_IN_LOCALCLUSTER)
	@cd tools/image && go vet ./...

# golangci-lint with the linter for Kubernetes API types built in.
GOLANGCI_LINT = $(TOOL) golangci-lint-kube-api-linter
LINT_IN_LOCALCLUSTER = go vet ./...

.PHONY: verify
verify: ## Regenerate and lint; fail on any difference
	@echo "==> regenerating"
	@$(MAKE) --no-print-directory generate
	@go mod tidy -diff
	@git diff --exit-code -- . || { echo "generated files differ: run 'make generate' and commit the result"; exit 1; }
	@test -z "$$(git status --porcelain)" || { git status --short; echo "untracked or uncommitted files: commit or ignore them"; exit 1; }
	@$(MAKE) --no-print-directory lint

.PHONY: clean
clean: ## End local clusters left behind and remove what was built
	@for cluster in .localcluster/*/state.json; do [ ! -e $$cluster ] || $(LOCALCLUSTER) --dir $$(dirname $$cluster) down; done
	@rm -rf $(BIN) .localcluster out
