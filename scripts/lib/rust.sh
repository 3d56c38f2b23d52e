# The one thing that is never installed for you: the compiler.
# shellcheck shell=bash

need_rust() {
  rust_ready && return
  local found=none wanted
  wanted=$(wanted_rust)
  have rustc && found=$(rustc --version)
  if have rustup; then
    refuse "Rust $wanted or newer is needed, found: $found. Type:" \
      "rustup toolchain install $wanted --component clippy,rustfmt" \
      "rustup default $wanted"
  fi
  refuse "Rust $wanted or newer is needed, found: $found. Type:" \
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --default-toolchain $wanted" \
    ". \"\$HOME/.cargo/env\""
}
