# shellcheck shell=bash disable=SC2154 # set in lab/lab and lab/versions
# The container image of the tests: busybox and the least that a root file system
# has, as an OCI archive. Made here, since there may be no registry to pull from;
# the same busybox gives the same digests.

# build_image BUSYBOX DIRECTORY: makes DIRECTORY/image.tar.
build_image() {
  local rootfs=$2/rootfs layout=$2/layout
  image_rootfs "$1" "$rootfs"
  image_layout "$rootfs" "$layout"
  sorted_tar "$layout" >"$2/image.tar"
  rm -rf "$rootfs" "$layout"
}

image_rootfs() {
  local applet
  mkdir -p "$2"/{bin,data,dev,etc,proc,root,run,sys,tmp,usr/bin,var}
  chmod 1777 "$2/tmp"
  install -m 755 "$1" "$2/bin/busybox"
  for applet in $("$1" --list); do
    [[ $applet == busybox ]] || ln -s busybox "$2/bin/$applet"
  done
  ln -s /bin/busybox "$2/usr/bin/env"
  printf '%s\n' root:x:0:0:root:/root:/bin/sh nobody:x:65534:65534:nobody:/:/bin/false >"$2/etc/passwd"
  printf '%s\n' root:x:0: nogroup:x:65534: >"$2/etc/group"
  echo '127.0.0.1 localhost' >"$2/etc/hosts"
}

image_layout() {
  local architecture diff layer config manifest
  architecture=$(dpkg_architecture)
  mkdir -p "$2/blobs/sha256"
  sorted_tar "$1" >"$2/layer"
  diff=$(sha256 "$2/layer")
  gzip -9 --no-name "$2/layer"
  layer=$(add_blob "$2" "$2/layer.gz" application/vnd.oci.image.layer.v1.tar+gzip)

  cat >"$2/config" <<JSON
{"created":"1970-01-01T00:00:00Z","architecture":"$architecture","os":"linux","config":{"Env":["PATH=/bin:/usr/bin"],"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:$diff"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"lab/image.sh"}]}
JSON
  config=$(add_blob "$2" "$2/config" application/vnd.oci.image.config.v1+json)

  cat >"$2/manifest" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":$config,"layers":[$layer]}
JSON
  manifest=$(add_blob "$2" "$2/manifest" application/vnd.oci.image.manifest.v1+json)

  cat >"$2/index.json" <<JSON
{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[${manifest%\}},"platform":{"architecture":"$architecture","os":"linux"},"annotations":{"io.containerd.image.name":"$image_ref","org.opencontainers.image.ref.name":"$image_ref"}}]}
JSON
  echo '{"imageLayoutVersion":"1.0.0"}' >"$2/oci-layout"
}

# add_blob LAYOUT FILE TYPE: moves FILE among the blobs, prints its descriptor.
add_blob() {
  local digest size
  digest=$(sha256 "$2")
  size=$(stat -c %s "$2")
  mv "$2" "$1/blobs/sha256/$digest"
  echo "{\"mediaType\":\"$3\",\"digest\":\"sha256:$digest\",\"size\":$size}"
}

sha256() { sha256sum "$1" | cut -d ' ' -f 1; }

# The architecture's name in images.
dpkg_architecture() {
  case $(uname -m) in
  x86_64) echo amd64 ;;
  aarch64) echo arm64 ;;
  *) uname -m ;;
  esac
}

sorted_tar() {
  tar -C "$1" --format=ustar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - .
}
