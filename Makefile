# The entry points. Each says itself what it needs: `make demo` is the place to start.
.PHONY: help demo demo-down test check gpu-check bench fuzz chaos install test-garage test-rabbitmq4 descriptors

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 #/p' Makefile | sed 's/#/\t/'

demo: ## from clone to a printed result; INPUT=dir runs it on your files
	@scripts/demo

demo-down: ## undoes what demo and test installed, started and made
	@scripts/demo-down

test: ## every test, those over real Docker, RabbitMQ, S3 and a registry too
	@scripts/test

check: ## format, lints, documentation, licences
	@scripts/check

gpu-check: ## compares what is read of this machine's GPUs with nvidia-smi, field by field
	cargo run --locked -q -p longshore -- check --gpus

bench: ## measures against raw floors of the same run; leaves target/bench/summary.json
	@scripts/bench

chaos: ## jobs outlive everything that is killed, in ten minutes; leaves target/chaos/summary.json
	@scripts/chaos

fuzz: ## fuzzes what reads others' bytes (FUZZ_SECONDS each), then plays a hundred seeds of the simulated cluster
	@scripts/fuzz

install: ## puts the binary into ~/.cargo/bin, optimised
	cargo install --locked --path cli

test-garage: ## the live tests with Garage as the object store (about 13 minutes to build it)
	@scripts/test-garage

test-rabbitmq4: ## the stories of queue and broker with RabbitMQ 4.x, of Debian 13
	@scripts/test-rabbitmq4

descriptors: ## writes proto/longshore.v1.binpb anew, after protos got something new
	cargo run --locked -q -p longshore-tests --bin descriptors
