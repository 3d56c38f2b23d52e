# Example images from a static busybox and one script, FROM scratch: nothing is pulled.
# shellcheck shell=bash

# example_image NAME TAG: builds examples/NAME.
example_image() {
  local name=$1 tag=$2 context busybox applet
  busybox=$(static_busybox) || refuse "no static busybox" "apt-get install busybox-static, or set BUSYBOX"
  context=$STATE/image/$name
  rm -rf "$context"
  mkdir -p "$context/rootfs/bin" "$context/rootfs/tmp" "$context/rootfs/etc"
  cp "$busybox" "$context/rootfs/bin/busybox"
  for applet in $("$busybox" --list | grep -vx busybox); do
    ln -s busybox "$context/rootfs/bin/$applet"
  done
  install -m 755 "examples/$name/$name.sh" "$context/rootfs/bin/$name"
  cp "examples/$name/Dockerfile" "$context/Dockerfile"
  docker build -q -t "$tag" "$context" >/dev/null 2>"$STATE/image.log" || {
    cat "$STATE/image.log" >&2
    refuse "docker build of examples/$name failed"
  }
  remember image "$tag"
}
