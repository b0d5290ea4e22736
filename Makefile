# Every target sets up what it needs on a fresh Debian machine with Node 20, as root.
SHELL := /bin/bash
JEST := node --experimental-vm-modules --disable-warning=ExperimentalWarning node_modules/jest/bin/jest.js
NPX := node_modules/.bin

.DEFAULT_GOAL := help
.PHONY: help up demo bench bench-scale bench-docs build test ok types lint format bundle plugin plugin-push deb test-pure test-etcd test-kernel test-docker test-faults test-macvlan fuzz soak clean tools-up tools-plugin tools-test

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: tools-up build ## run the agent on this host with an embedded etcd, and say what to type next
	@exec node dist/daemon/main.js --greet

demo: tools-test build ## two Docker hosts on this machine, one network, drawn on the terminal
	@node dist/bench/demo.js

bench: tools-test build ## the budgets, each beside a baseline of the same run (ROW=name for one)
	@node dist/bench/main.js

bench-docs: tools-test build ## measure everything, and write the figures into docs/benchmarks.md (half an hour)
	@mkdir -p .build; node dist/bench/main.js --json > .build/bench.json || echo 'rows are missing: see above'
	@node dist/bench/write-docs.js .build/bench.json

bench-scale: tools-test build ## a large cluster simulated (HOSTS=200 NETWORKS=10000 ENDPOINTS=100000)
	@node dist/bench/scale.js

test: tools-test ok test-kernel test-docker test-faults test-macvlan ## everything: types, lint, layers, pure, etcd, kernel, docker, faults, and what concerns macvlans once more

ok: types lint test-pure test-etcd ## what must be green before every commit

build: node_modules/.package-lock.json
	@$(NPX)/tsc -p tsconfig.json

types: build ## compile, which is the type check

lint: node_modules/.package-lock.json ## lint and format check
	@$(NPX)/biome check .

format: node_modules/.package-lock.json ## lint and format, mended where it can be
	@$(NPX)/biome check --write .

test-pure: build ## pure functions; the import rules are one of these tests
	@$(JEST) dist/test/pure

test-etcd: build tools-test ## store, addresses, networks on a real etcd
	@$(JEST) dist/test/etcd

test-kernel: build tools-test ## overlay in real network namespaces (root)
	@$(JEST) --runInBand dist/test/kernel

test-docker: build tools-test ## real dockerds in namespaces (root)
	@$(JEST) --runInBand dist/test/docker

test-faults: build tools-test ## what must hold when things break: crashes, damage, a bad etcd (root)
	@$(JEST) --runInBand dist/test/faults

# Those that the data plane concerns; doors, keys and addresses are the same for both.
MACVLAN_TESTS := dist/test/kernel \
	$(addprefix dist/test/docker/,two-hosts container-life failures connect) \
	$(addprefix dist/test/faults/,kernel-damage crash schedules verify invariants machine-restart hosts restored-etcd)

test-macvlan: build tools-test ## kernel, docker and faults once more, with macvlans for bridges (root)
	@SAND_TEST_DATAPLANE=macvlan $(JEST) --runInBand $(MACVLAN_TESTS)

fuzz: build tools-test ## hostile requests to both doors of a real agent (COUNT=100000, SEED=n) (root)
	@node dist/test/fuzz/main.js

soak: build tools-test ## half an hour of users, faults and traffic, ten minutes of churn (MINUTES=30, SEEDS=1000, CHURN=10; FAULT=kernel: those alone) (root)
	@node dist/test/soak/main.js

bundle: build ## the agent and its command line without node_modules, in .build/bundle
	@node dist/packaging/bundle.js

PLUGIN ?= sand-net:latest

plugin: tools-plugin build ## the managed plugin, for docker plugin enable (PLUGIN=name:tag)
	@node dist/packaging/plugin/main.js create $(PLUGIN)

plugin-push: tools-plugin build ## the same into a registry (REGISTRY=host:port/path, PLUGIN=name:tag)
	@test -n "$(REGISTRY)" || { echo 'say where: make plugin-push REGISTRY=registry.example.com/team'; exit 1; }
	@node dist/packaging/plugin/main.js push $(REGISTRY)/$(PLUGIN)

deb: tools-plugin build ## a Debian package of agent and command line, in .build/
	@node dist/packaging/deb/main.js

clean: ## remove what was built and installed
	rm -rf dist .build node_modules

node_modules/.package-lock.json: package.json package-lock.json .npmrc
	npm ci --no-audit --no-fund --loglevel=error
	@touch $@

# Programs that are missing, as Debian packages: $(call install,program:package …)
define install
	@missing=; for pair in $(1); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	if [ -n "$$missing" ]; then echo "installing$$missing"; apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi
endef

tools-up:
	$(call install,etcd:etcd-server setpriv:util-linux)

tools-plugin: tools-up
	$(call install,strip:binutils docker:docker.io dpkg-deb:dpkg)

tools-test: tools-up tools-plugin
	$(call install,etcdctl:etcd-client dockerd:docker.io iptables:iptables ip:iproute2 ping:iputils-ping \
	iperf3:iperf3 docker-registry:docker-registry tcpdump:tcpdump busybox:busybox-static nsenter:util-linux ps:procps docker-compose:docker-compose \
	man:man-db groff:groff-base systemd-analyze:systemd)
