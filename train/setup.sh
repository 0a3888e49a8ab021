# Sourced by train/sst2.sh and tests/run.sh: installs what building needs. Usage: sinter_setup [package ...]
# Packages that are missing are installed with apt when this is root (or sudo works without a password); else they are named.

sinter_packages="g++ cmake ninja-build ccache libeigen3-dev nlohmann-json3-dev libcli11-dev zlib1g-dev libgtest-dev libbenchmark-dev"

sinter_setup() {
  local missing="" package
  for package in $sinter_packages "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q "install ok installed" || missing="$missing $package"
  done
  [ -z "$missing" ] && return 0
  local install="apt-get install -y --no-install-recommends$missing"
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "sinter needs these Debian packages (or their equals here):$missing" >&2
    return 1
  fi
  local sudo=""
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "sinter needs packages that are not installed; run: sudo $install" >&2
      return 1
    fi
    sudo="sudo"
  fi
  echo "installing:$missing" >&2
  $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive $sudo $install >/dev/null
}
