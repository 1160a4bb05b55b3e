#!/usr/bin/env bash
# Builds, lints and tests patroniglue: ./build.sh help
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

staticcheck=honnef.co/go/tools/cmd/staticcheck@v0.8.2
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0
gotestsum=gotest.tools/gotestsum@v1.13.0
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da # it has no releases
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.0 # the newest that builds from the module proxy alone

usage() {
	cat <<'USAGE'
./build.sh [build]              build ./patroniglue, one static binary
./build.sh lint                 formatters, vet and linters; changes nothing
./build.sh test [go test args]  install what tests need (root on Debian), build, lint, run every test; with arguments go test alone, such as ./test/program
./build.sh matrix               run every test with real parts on bookworm's, trixie's and forky's, and print a table (root on Debian)
./build.sh bench [NAME [args]]  print every table; or that of contrib/bench/NAME (root on Debian), or of go, the packages' own benchmarks
./build.sh bench-compare REV [go test args]
                                compare the packages' benchmarks of the commit REV with those of this checkout
./build.sh fuzz [TIME]          run every fuzz target for TIME (default 1h), three at once
./build.sh soak [MINUTES]       ask 300 simulated nodes' supervisor 1000 times a second for MINUTES (default 10), and compare with the truth
./build.sh screenshots          render docs/page-*.png, the README's pictures of the status page
./build.sh release [ARCH...]    make tar.gz, .deb and sha256sums in dist/ or $DIST (default: amd64 arm64)
./build.sh help                 this text
USAGE
}

say() { printf 'build.sh: %s\n' "$*" >&2; }

# version: the nearest tag's description; in a checkout without tags VERSION and the commit; in a tarball VERSION.
version() {
	local v
	v=$(<VERSION) || return 1
	if [[ -e .git ]]; then # or else a tarball unpacked inside another checkout would name that one's commit
		git describe --tags --dirty 2>/dev/null | sed 's/^v//' && return
		v+=$(git describe --always --dirty 2>/dev/null | sed 's/^/+/') || true
	fi
	echo "$v"
}

# build [FILE]
build() {
	local v
	v=$(version)
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$v" -o "${1:-patroniglue}" .
}

# deb_version: version as Debian compares it: 2.0.0~dev+abc1234 comes before 2.0.0, and 2.0.0+5.gabc1234, five commits
# later, after it.
deb_version() {
	version | sed -E 's/-dirty$/.dirty/; s/-([0-9]+)-g([0-9a-f]+)/+\1.g\2/; s/-/~/g'
}

# epoch: the time of all files in a release, seconds: of the last commit; in a tarball of VERSION.
epoch() {
	if [[ -e .git ]]; then git log -1 --format=%ct; else stat -c %Y VERSION; fi
}

# release: the same commit and the same Go give the same bytes.
release() (
	umask 022
	dist=${DIST:-dist}
	SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(epoch)}
	DEB_VERSION=$(deb_version)
	STAGE=$(mktemp -d)
	trap 'rm -r "$STAGE"' EXIT
	export SOURCE_DATE_EPOCH DEB_VERSION STAGE ARCH
	(($# > 0)) || set -- amd64 arm64

	mkdir -p "$dist"
	rm -f "$dist"/patroniglue-*.tar.gz "$dist"/patroniglue_*.deb "$dist/sha256sums"
	gzip -9n <CHANGELOG.md >"$STAGE/changelog.gz"
	gzip -9n <contrib/man/patroniglue.8 >"$STAGE/patroniglue.8.gz"
	gzip -9n <contrib/man/patroniglue.toml.5 >"$STAGE/patroniglue.toml.5.gz"
	for ARCH in "$@"; do
		name=patroniglue-$(version)-linux-$ARCH
		mkdir "$STAGE/$name"
		GOOS=linux GOARCH=$ARCH build "$STAGE/patroniglue"
		cp -R "$STAGE/patroniglue" LICENSE README.md CHANGELOG.md patroniglue.example.toml docs contrib/man contrib/systemd contrib/prometheus contrib/grafana contrib/logrotate "$STAGE/$name"
		find contrib -maxdepth 1 -name 'patroni-*' -exec cp {} "$STAGE/$name" ';'
		tar -C "$STAGE" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
			-c "$name" | gzip -9n >"$dist/$name.tar.gz"
		go run "$nfpm" package --config contrib/packaging/nfpm.yaml --packager deb --target "$dist/patroniglue_${DEB_VERSION}_$ARCH.deb"
	done
	cd "$dist"
	sha256sum -- *.tar.gz *.deb >sha256sums
	say "$dist:"
	cat sha256sums
)

# lint runs every linter, also after one has failed, and names those that failed.
lint() {
	local name failed=()
	for name in gofmt vet fix staticcheck tidy shellcheck govulncheck; do
		"lint_$name" || failed+=("$name")
	done
	((${#failed[@]} == 0)) || { say "lint: failed: ${failed[*]}"; return 1; }
	say "lint: clean"
}

# Each linter runs where set -e has no effect: its last command's status counts.

lint_gofmt() {
	local files
	files=$(gofmt -l .) || return 1
	[[ -z $files ]] || { say "gofmt would change:" "$files"; return 1; }
}

lint_vet() { go vet ./...; }

lint_fix() { go fix -diff ./...; }

lint_staticcheck() { go run "$staticcheck" ./...; }

lint_tidy() { go mod tidy -diff; }

lint_shellcheck() {
	command -v shellcheck >/dev/null || { say "shellcheck is not installed: shell scripts are not checked"; return 0; }
	shell_scripts | xargs -0 -r shellcheck -x
}

# shell_scripts: the repository's shell scripts by name or first line, also those not committed yet, each ended by NUL.
shell_scripts() {
	local file line
	while IFS= read -r -d '' file; do
		[[ -f $file ]] || continue # deleted, but still in the index
		IFS= read -r line <"$file" || true
		if [[ $file == *.sh || $line =~ ^'#!'.*[/\ ](ba|da)?sh(\ |$) ]]; then printf '%s\0' "$file"; fi
	done < <(git ls-files -z --cached --others --exclude-standard 2>/dev/null || find . -name .git -prune -o -type f -print0)
}

# lint_govulncheck fails for a vulnerability and for every error but one: that the database cannot be reached.
lint_govulncheck() (
	dir=$(mktemp -d) || exit 1
	trap 'rm -r "$dir"' EXIT
	# Installed, because `go run` makes every exit status of the program a 1.
	GOBIN=$dir go install "$govulncheck" || exit 1
	status=0
	out=$("$dir/govulncheck" ./... 2>&1) || status=$?
	case $status:$out in
	0:*) ;;
	1:"govulncheck: fetching vulnerabilities: Get "* | 1:"govulncheck: fetching vulnerabilities: HTTP GET "*)
		say "vulnerabilities NOT CHECKED, no database: ${out%%$'\n'*}"
		;;
	*) # 3 when it found some
		printf '%s\n' "$out" >&2
		exit 1
		;;
	esac
)

# packages: the Debian packages that the tests need, one a line.
packages() {
	# gcc for -race, systemd for systemd-analyze, prometheus for promtool, monitoring-plugins-basic for check_http,
	# nftables to drop packets, nginx-light for contrib/bench/checks, chromium for the status page, which needs a font,
	# mmdebstrap for contrib/lab/suite
	printf '%s\n' gcc libc6-dev shellcheck mandoc systemd prometheus logrotate monitoring-plugins-basic nftables nginx-light chromium fonts-dejavu-core \
		mmdebstrap debian-archive-keyring
	command -v npm >/dev/null || echo npm # for axe-core; Debian's cannot be installed beside that of others
	if [[ -e contrib/lab/packages ]]; then sed 's/#.*//' contrib/lab/packages | xargs -r -n 1; fi
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed* ]]; }

# missing: those of them that are not installed, as far as dpkg knows.
missing() {
	local name
	for name in $(packages); do
		installed "$name" || echo "$name"
	done
}

# provide makes sure that the tests have what they need, or says what they lack.
provide() {
	local lack
	lack=$(missing | xargs)
	if [[ $EUID == 0 ]] && grep -qx ID=debian /etc/os-release; then
		export PATRONIGLUE_LAB=required # end-to-end tests fail when they lack something, they do not skip
		if [[ -n $lack ]]; then install_missing; fi
	elif [[ -n $lack ]]; then
		say "MISSING, as far as dpkg knows (only root on Debian has it installed): $lack"
		say "MISSING: the end-to-end tests that need one of these will be SKIPPED"
	fi
	if [[ $EUID == 0 ]]; then suites; fi
	axe || say "MISSING: axe-core, which npm could not fetch: the status page's tests will fail, or be SKIPPED where nothing is installed"
}

# suites makes the root file systems of the generations of Debian that the tests run over; without them those tests are
# skipped, or fail where they are required.
suites() {
	local suite
	for suite in ${PATRONIGLUE_SUITES:-bookworm trixie}; do
		contrib/lab/suite make "$suite" || say "MISSING: the programs of $suite"
	done
}

# axe has npm fetch axe-core for the status page's tests, in the version and with the checksum of its package-lock.json.
axe() {
	local dir=test/page/testdata/axe
	[[ $dir/node_modules/.package-lock.json -nt $dir/package-lock.json ]] ||
		npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
}

# install_missing lets no package start a service or make a database cluster of its own.
install_missing() (
	policy=/usr/sbin/policy-rc.d
	createcluster=/etc/postgresql-common/createcluster.conf
	export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1

	say "installing $(missing | xargs)"
	if ! installed postgresql-common && [[ ! -e $createcluster ]]; then
		install -D -m 644 /dev/stdin "$createcluster" <<<'create_main_cluster = false'
	fi

	exists() { [[ -e $1 || -L $1 ]]; }
	if exists "$policy"; then mv "$policy" "$policy.saved"; fi
	trap 'rm -f "$policy"; if exists "$policy.saved"; then mv "$policy.saved" "$policy"; fi' EXIT
	install -m 755 /dev/stdin "$policy" <<<$'#!/bin/sh\nexit 101'

	apt-get -q update
	missing | xargs apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 install
)

# go_test runs go test on every package, unless the arguments name some.
go_test() {
	[[ " $* " == *" ./"* ]] || set -- "$@" ./...
	go test "$@"
}

# run_tests is `./build.sh test`; test itself is a shell builtin.
run_tests() {
	provide
	find_race
	if (($# > 0)); then
		go_test "${race[@]}" -shuffle=on -timeout 25m "$@"
		return
	fi
	build
	all_tests
}

# find_race sets race to the flag of the race detector, which needs a C compiler.
find_race() {
	race=()
	if command -v "$(go env CC)" >/dev/null; then
		race=(-race)
		export CGO_ENABLED=1
	else
		say "MISSING: a C compiler: the tests run WITHOUT the race detector"
	fi
}

# all_tests: packages side by side, because their tests mostly wait, with lint beside them; then, with nothing beside it,
# the suite that judges time. At the end it says how long that took, and which tests took longest.
all_tests() (
	dir=$(mktemp -d)
	trap 'rm -r "$dir"' EXIT
	failed=()
	lint >"$dir/lint" 2>&1 &
	lint=$!
	mapfile -t packages < <(longest_first)
	summed "$dir/1.json" -shuffle=on -timeout 25m -p 4 -parallel 3 "${packages[@]}" || failed+=("tests")
	wait "$lint" || failed+=("lint")
	cat "$dir/lint" >&2
	summed "$dir/2.json" -shuffle=on -timeout 25m ./test/abuse || failed+=("test/abuse")
	# Without the race detector, which allocates, and which leaves time for some of the random walks only.
	go test -run 'Alloca|WhateverHappens|WalkOverFaults' ./... >"$dir/norace" || { cat "$dir/norace"; failed+=("without -race"); }
	say "the ten slowest tests:"
	cat "$dir"/*.json | go run "$gotestsum" tool slowest --num 10 --threshold 1s
	say "all of it took $((SECONDS / 60))m$((SECONDS % 60))s"
	((${#failed[@]} == 0)) || { say "test: failed: ${failed[*]}"; exit 1; }
)

# longest_first: all packages but the one that runs alone; the suites first, which take longest.
longest_first() {
	printf './test/%s\n' patroni program shipped haproxy faults page
	go list -f '{{.Dir}}' ./... | sed "s|^$PWD|.|" | grep -vE '^\./test/(patroni|program|shipped|haproxy|faults|page|abuse)$'
}

# summed JSON [go test args]: a line for each package, all that failed, a line at the end.
summed() {
	local json=$1
	shift
	go run "$gotestsum" --format pkgname --jsonfile "$json" -- "${race[@]}" "$@"
}

# matrix runs what talks to real parts on every suite, and prints what came of each test: suite × test.
matrix() (
	[[ $EUID == 0 ]] || { say "matrix: want root: programs of other suites run by chroot"; exit 1; }
	provide
	find_race
	dir=$(mktemp -d)
	trap 'rm -r "$dir"' EXIT
	export PATRONIGLUE_SUITES="bookworm trixie forky"
	status=0
	summed "$dir/1.json" -timeout 60m -p 2 ./test/patroni ./test/haproxy ./test/faults ./node ./agentapi ./internal/cli ./contrib/lab || status=$?
	# A row is a test without its suite, which is the second part of its name.
	jq -rs --arg suites "$PATRONIGLUE_SUITES" '
		($suites | split(" ")) as $columns
		| [.[] | select(.Test and (.Action | IN("pass", "fail", "skip"))) | (.Test | split("/")) as $name
			| select($name[1] | IN($columns[])) | {row: ([$name[0]] + $name[2:] | join("/")), suite: $name[1], cell: "\(.Action) \(.Elapsed) s"}]
		| group_by(.row)[] | [.[0].row] + [$columns[] as $c | ([.[] | select(.suite == $c) | .cell] | first // "-")] | @tsv' "$dir/1.json" |
		sed "1i test	${PATRONIGLUE_SUITES// /	}" | column -t -s '	'
	exit "$status"
)

# benches: what bench runs.
benches() {
	local dir
	echo go
	for dir in contrib/bench/*/; do
		[[ $dir == */soak/ ]] || basename "$dir" # soak is a test: ./build.sh soak
	done
}

# bench [NAME [args]] goes on after one has failed, and names those that failed.
bench() {
	local name failed=()
	if (($# == 0)); then
		for name in $(benches); do
			say "bench $name"
			bench "$name" || failed+=("$name")
		done
		((${#failed[@]} == 0)) || { say "bench: failed: ${failed[*]}"; return 1; }
	elif [[ $1 == go ]]; then
		go_test -run '^$' -bench . -benchmem "${@:2}"
	elif [[ " $(benches | xargs) " == *" $1 "* ]]; then
		go run "./contrib/bench/$1" "${@:2}"
	else
		say "bench: unknown \"$1\", want one of $(benches | xargs)"
		return 2
	fi
}

# bench_compare REV [go test args]: six rounds, as benchstat wants for a confidence of 95 %, one of then and one of now
# after the other, so that what else the machine does is in both.
bench_compare() (
	(($# > 0)) || { say "bench-compare: want a commit to compare with, such as origin/main"; exit 2; }
	dir=$(mktemp -d)
	trap 'rm -r "$dir"' EXIT
	git worktree add --quiet --detach "$dir/then" "$1"
	trap 'git worktree remove --force "$dir/then"; rm -r "$dir"' EXIT
	for round in 1 2 3 4 5 6; do
		say "round $round of 6"
		(cd "$dir/then" && go_test -run '^$' -bench . -benchmem "${@:2}") | tee -a "$dir/then.txt" >&2
		go_test -run '^$' -bench . -benchmem "${@:2}" | tee -a "$dir/now.txt" >&2
	done
	go run "$benchstat" "$1=$dir/then.txt" "now=$dir/now.txt"
)

fuzz() {
	local list
	# go test lists a package's targets, then "ok" and the package.
	list=$(go test -list '^Fuzz' ./...) || { printf '%s\n' "$list" >&2; return 1; }
	list=$(awk '/^Fuzz/ { t[n++] = $1 } /^ok/ { for (i = 0; i < n; i++) print $2, t[i]; n = 0 }' <<<"$list")
	[[ -n $list ]] || { say "fuzz: no targets"; return 1; }
	cut -d' ' -f1 <<<"$list" | sort -u | xargs -n 1 go test -run '^$' -fuzz '^$' >/dev/null # compile once, not once for each target
	export -f fuzz_one
	xargs -n 2 -P 3 bash -c 'fuzz_one "$@"' fuzz "${1:-1h}" <<<"$list"
}

# fuzz_one TIME PACKAGE TARGET: all it said when it failed, else how far it got.
fuzz_one() {
	local out
	# Go minimizes each input that reaches new code for up to a minute, and runs nothing else meanwhile.
	if out=$(go test -run '^$' -parallel 1 -fuzz "^$3\$" -fuzztime "$1" -fuzzminimizetime 1s "$2" 2>&1 </dev/null); then
		printf '%s: %s\n' "$3" "$(grep '^fuzz: elapsed' <<<"$out" | tail -n 1)"
	else
		printf '%s of %s FAILED:\n%s\n' "$3" "$2" "$out"
		return 1
	fi
}

# screenshots: a simulated day in half a minute (test/page/screenshot_test.go).
screenshots() {
	provide
	go test -count=1 -run '^TestScreenshots$' -v ./test/page -screenshots docs
}

# A checkout that another user owns must build too; version says what VCS stamping would.
GOFLAGS="$(go env GOFLAGS) -buildvcs=false"
export GOFLAGS

command=${1:-build}
shift || true
case $command in
build | lint | screenshots) "$command" ;;
test) run_tests "$@" ;;
matrix) matrix ;;
bench) bench "$@" ;;
bench-compare) bench_compare "$@" ;;
fuzz) fuzz "$@" ;;
soak) go run ./contrib/bench/soak -minutes "${1:-10}" ;;
release) release "$@" ;;
help | -h | --help) usage ;;
*) say "unknown command \"$command\", want build, lint, test, matrix, bench, bench-compare, fuzz, soak, screenshots, release or help"; exit 2 ;;
esac
