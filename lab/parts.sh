# shellcheck shell=bash disable=SC2154 # set in lab/lab and lab/versions
# The parts that a lab is put together from, each in its own directory below
# $cache/parts, named after what decides its content. A part is built aside, under
# a lock, and renamed when it is whole.

newest_containerd=${containerd_version#v}
part_names=(forky trixie runsc runsc-2024 "containerd-$newest_containerd" image vm-forky vm-trixie
  gvisor-shim runc-shim-rs)

# part_key NAME: the directory's name. Other than `part_names`, "go" is the userland
# in which Go modules are compiled.
part_key() {
  case $1 in
  forky | trixie | go) echo "$1-$(packages_of "$1" | digest "$lab_mirror")" ;;
  runsc) echo "runsc-$runsc_version" ;;
  runsc-2024) echo "runsc-$runsc_2024_version" ;;
  gvisor-shim) echo "gvisor-shim-$runsc_version" ;;
  runc-shim-rs) echo "runc-shim-rs-$runc_shim_rs_version" ;;
  "containerd-$newest_containerd") echo "containerd-$containerd_version" ;;
  vm-forky | vm-trixie) echo "$1-$({ packages_of "$1" && cat "$lab/disk.sh"; } | digest "$lab_mirror")" ;;
  image) echo "image-$(digest "$image_ref $(part_key forky)" <"$lab/image.sh")" ;;
  *) die "no such part: $1 (there are ${part_names[*]})" ;;
  esac
}

part_path() { echo "$cache/parts/$(part_key "$1")"; }

# digest EXTRA: eight digits for standard input and EXTRA.
digest() { { cat && echo "$1"; } | sha256sum | cut -c 1-8; }

# Megabytes needed while it is built.
part_size() {
  case $1 in
  forky | trixie) echo 900 ;;
  go) echo 1000 ;;
  vm-*) echo 1300 ;;
  runsc | containerd-* | gvisor-shim) echo 2500 ;;
  runc-shim-rs) echo 1000 ;;
  *) echo 100 ;;
  esac
}

# make_part NAME: nothing if it is there.
make_part() {
  local name=$1 key path aside log started
  key=$(part_key "$name")
  path=$cache/parts/$key
  [[ ! -d $path ]] || return 0
  need_root
  case $name in
  forky | trixie | go) need_commands mmdebstrap ;;
  vm-*) need_commands mmdebstrap mke2fs ;;
  runc-shim-rs) command -v cargo >/dev/null || die "$name: cargo is missing on this host" ;;
  esac
  need_disk "$cache" "$(part_size "$name")" "building $name"
  mkdir -p "$cache"/{parts,locks,logs}
  local lock attempt status
  exec {lock}>"$cache/locks/$key"
  if ! flock -n "$lock"; then
    say "$name: another lab is building it, waiting"
    flock "$lock"
  fi
  if [[ ! -d $path ]]; then
    log=$cache/logs/$key.log
    started=$SECONDS
    case $name in
    forky | trixie | go | vm-* | runc-shim-rs) ;;
    runsc-2024) make_part trixie ;;
    image) make_part forky ;;
    *) make_part go ;;
    esac
    say "$name: building"
    # A mirror or a proxy may fail for a moment, after all that apt and go try by themselves.
    for attempt in 1 2 3; do
      # Failed and killed builds of this part left these; nobody else builds it now.
      rm -rf --one-file-system "$cache/parts/.$key."*
      aside=$(mktemp -d "$cache/parts/.$key.XXXXXX")
      chmod 755 "$aside"
      status=0
      # Dies with us; its processes keep the lock for as long as one of them lives.
      setpriv --pdeathsig KILL "$lab/lab" build "$name" "$aside" >"$log" 2>&1 </dev/null || status=$?
      if ((status == 0 || attempt == 3)) || ! lost_network "$log"; then break; fi
      say "$name: a download failed, trying again"
      sleep $((attempt * 5))
    done
    if ((status != 0)); then
      tail -n 20 "$log" | sed 's/^/lab: | /' >&2
      rm -rf --one-file-system "$aside"
      die "$name: $(why_failed "$log") (all of it: $log)"
    fi
    mv "$aside" "$path"
    say "$name: built in $((SECONDS - started)) s"
  fi
  exec {lock}>&-
}

# lost_network LOG: whether the build failed for what a registry, or the way to it, did.
lost_network() {
  grep -Eqi 'could not (resolve|connect)|connection (reset|refused|failed|timed out)|temporary failure|failed to fetch|hash sum mismatch|no such host|dial tcp|network is unreachable|(i/o|handshake) timeout|unexpected eof|50[0-4] (bad|internal|service|gateway)' "$1"
}

why_failed() {
  if lost_network "$1"; then
    echo "no connection to the package registries; building needs the network once (see https_proxy, http_proxy, GOPROXY, STASIS_LAB_MIRROR)"
  else
    echo "the build failed"
  fi
}

build_part() {
  case $1 in
  forky | trixie | go) build_userland "$1" "$2" ;;
  runsc) build_go "$2" "$runsc_version" "$runsc_module" ;;
  gvisor-shim) in_go_userland "$2" "$lab/gvisor-shim" "$go_root/bin/go" "$runsc_version" "$2" ;;
  runc-shim-rs) build_cargo "$2" "$runc_shim_rs_crate" "$runc_shim_rs_version" ;;
  runsc-2024) install -m 755 "$(part_path trixie)/usr/bin/runsc" "$2/runsc" ;;
  containerd-*)
    build_go "$2" "$containerd_version" "${containerd_programs[@]/#/$containerd_module/}"
    ;;
  vm-*) build_disk "$1" "$2" ;;
  image) build_image "$(part_path forky)/usr/bin/busybox" "$2" ;;
  esac
}

packages_of() {
  case $1 in
  forky) printf '%s\n' "${userland_packages[@]}" ;;
  trixie) printf '%s\n' "${userland_packages[@]}" "${trixie_packages[@]}" ;;
  go) printf '%s\n' "${go_packages[@]}" ;;
  vm-*) packages_of "${1#vm-}" && printf '%s\n' "${vm_packages[@]}" ;;
  esac
}

build_userland() {
  local suite=${1#vm-} packages
  [[ $suite != go ]] || suite=forky
  packages=$(packages_of "$1" | paste -sd ,)
  # Its own namespaces: a killed build takes its processes and mounts with it.
  # Forky's Release file may be past its date on a mirror that stands still.
  nice setpriv --pdeathsig KILL unshare --mount --pid --mount-proc --fork --kill-child=KILL -- \
    mmdebstrap --mode=root --format=directory --variant=minbase \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --include="$packages" "$suite" "$2" ${lab_mirror:+"$lab_mirror"}
}

# build_go DIRECTORY VERSION PACKAGE...
build_go() {
  local into=$1 version=$2
  shift 2
  in_go_userland "$into" "$go_root/bin/go" install -ldflags='-s -w' "${@/%/@$version}"
}

# build_cargo DIRECTORY CRATE VERSION: by the host's cargo, as the shim under test is.
build_cargo() {
  # For the toolchain that the repository names.
  cd "$repository" || return
  nice setpriv --pdeathsig KILL cargo install --locked --root "$1/.root" \
    --target-dir "$1/.target" --version "$3" "$2"
  mv "$1"/.root/bin/* "$1"
  rm -rf --one-file-system "$1/.root" "$1/.target"
}

# in_go_userland DIRECTORY COMMAND...: what writes into the directory, in a lab on the userland
# "go", with the host's way to the module proxy. Caches of the compiler go with that lab.
in_go_userland() {
  local into=$1 variable value bundle settings=()
  shift
  for variable in {http,https,no}_proxy {HTTP,HTTPS,NO}_PROXY; do
    [[ -z ${!variable:-} ]] || settings+=(--env "$variable=${!variable}")
  done
  for variable in GOPROXY GOSUMDB GONOSUMDB GONOPROXY GOPRIVATE GOINSECURE; do
    value=${!variable:-}
    # A user's `go env -w` counts as well.
    if [[ -z $value ]] && command -v go >/dev/null; then value=$(go env "$variable"); fi
    [[ -z $value ]] || settings+=(--env "$variable=$value")
  done
  for bundle in "${SSL_CERT_FILE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do
    if [[ -f $bundle ]]; then
      cp -L "$bundle" "$into/.ca.crt"
      settings+=(--env "SSL_CERT_FILE=$into/.ca.crt")
      break
    fi
  done
  nice setpriv --pdeathsig KILL "$lab/lab" run --suite go --deadline 1800 --bind "$into" \
    "${settings[@]}" \
    --env GOBIN="$into" --env CGO_ENABLED=0 --env GOTOOLCHAIN=local --env GOFLAGS=-buildvcs=false \
    --env GOPATH=/scratch/go --env GOCACHE=/scratch/go-cache --env GOTMPDIR=/scratch \
    -- "$@"
  rm -f "$into/.ca.crt"
}

# Prints what is cached, and what no line of lab/versions names any more.
show_status() {
  local name path known=()
  echo "cache: $cache"
  for name in "${part_names[@]}" go; do
    path=$(part_path "$name")
    known+=("$path")
    if [[ -d $path ]]; then
      printf '%-17s %6s  %s\n' "$name" "$(du -sh "$path" | cut -f 1)" "${path##*/}"
    else
      printf '%-17s %6s  %s\n' "$name" - "not built yet"
    fi
  done
  for path in "$cache"/parts/*; do
    [[ ! -d $path || " ${known[*]} " == *" $path "* ]] ||
      printf '%-17s %6s  %s\n' '(old)' "$(du -sh "$path" | cut -f 1)" "${path##*/}"
  done
}

# clean_parts [NAME...|--all]: the named ones, all, or (without arguments) the old.
clean_parts() {
  local name path keep=() doomed=()
  case ${1:-} in
  --all) doomed=("$cache"/parts/* "$cache"/parts/.[!.]*) ;;
  '')
    for name in "${part_names[@]}" go; do keep+=("$(part_path "$name")"); done
    for path in "$cache"/parts/*; do
      [[ " ${keep[*]} " == *" $path "* ]] || doomed+=("$path")
    done
    ;;
  *) for name; do doomed+=("$(part_path "$name")"); done ;;
  esac
  for path in "${doomed[@]}"; do
    if [[ -d $path ]]; then clean_part "$path"; fi
  done
}

clean_part() {
  local key=${1##*/} lock aside
  mkdir -p "$cache/locks"
  exec {lock}>"$cache/locks/$key"
  # Builders hold it, and runs that use the part.
  if ! flock -n "$lock"; then
    say "$key is in use: left alone"
  else
    aside=$cache/parts/.$key.old
    mv -T "$1" "$aside" && rm -rf --one-file-system "$aside"
    say "removed $key"
  fi
  exec {lock}>&-
}

# hold_part NAME: makes it and keeps `clean` off it while this process lives.
hold_part() {
  local lock path
  path=$(part_path "$1")
  while :; do
    make_part "$1"
    mkdir -p "$cache/locks"
    exec {lock}>"$cache/locks/${path##*/}"
    flock --shared "$lock"
    [[ ! -d $path ]] || return 0
    exec {lock}>&-
  done
}
