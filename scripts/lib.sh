# shellcheck shell=sh disable=SC2034,SC2154
# Shell functions shared by scripts/build, scripts/demo and scripts/test. Sourced; wants $top to be the top of the tree.

# What a build needs, what the demonstration needs beyond it, what the tests need beyond that, and what CI adds. A test that
# needs a program or module names its package here: under scripts/test it fails without it, it is not skipped.
build_packages='autoconf automake gcc libc6-dev make pkg-config libfuse3-dev libevent-dev libsqlite3-dev libssl-dev libcap-ng-dev libseccomp-dev libjansson-dev python3-dev'
demo_packages='fuse3 python3-cloudpickle'
test_packages='fuse3 libcmocka-dev python3-pytest python3-pytest-xdist python3-cloudpickle python3-dask python3-dill python3-ipykernel python3-ipywidgets python3-joblib python3-jupyter-client python3-numpy python3-prometheus-client
    python3-tqdm python3-yaml chromium cpio curl e2fsprogs ed emacs-nox faketime iproute2 jq munge nano nftables openssh-client openssh-server openssl passwd procps rsync slurm-wlm snakemake strace tmux vim zsh'
ci_packages='clang clang-format cppcheck debootstrap man-db mypy shellcheck'

package_packages='debhelper dh-python dpkg-dev lintian'

PYTHON=/usr/bin/python3

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need PACKAGE...: installs those that are missing, and says which.
need() {
    missing=
    command -v dpkg-query >/dev/null 2>&1 || {
        say "No dpkg here: going on without installing anything. On Debian these packages are needed: $*"
        return 0
    }
    for package; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
        installed) ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || die "not root and no sudo; as root, run: apt-get install$missing"
        as_root=sudo
    fi
    # One update, and only when something has to be fetched: old lists name packages that are gone.
    if [ -z "${apt_updated:-}" ]; then
        say "Fetching apt's lists of packages ..."
        $as_root apt-get update -qq || say "apt-get update failed; trying with the lists that are here"
        apt_updated=1
    fi
    # shellcheck disable=SC2086 # a list of words
    set -- $missing
    say "Installing $# packages and what they need with apt-get; this may take a minute or two:$missing"
    # shellcheck disable=SC2086
    installing=$($as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing 2>&1) || {
        say "$installing"
        die "apt-get could not install$missing"
    }
}

# copy_sources FROM TO: the sources as they stand there, without what was built from them.
copy_sources() {
    if git -C "$1" rev-parse --git-dir >/dev/null 2>&1; then
        git -C "$1" ls-files -co --exclude-standard -z | (cd "$1" && tar --null -T - --ignore-failed-read -cf - 2>/dev/null)
    else
        tar -C "$1" --exclude='./build*' -cf - .
    fi | tar --no-same-owner -C "$2" -xf -
}

# Whether a filesystem can be mounted here. The device node alone says nothing: in many containers it may not be opened. Where
# it is missing, opening it would make a regular file.
fuse_works() {
    [ -c /dev/fuse ] && (exec 3<>/dev/fuse) 2>/dev/null
}

no_fuse='/dev/fuse cannot be opened here: load the fuse module, or start the container with --device /dev/fuse --cap-add SYS_ADMIN.'

processors() {
    nproc 2>/dev/null || echo 1
}
