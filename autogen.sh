#!/bin/sh
# Makes configure and Makefile.in, which are not kept in git. Run it once after a checkout, then ./configure.
set -e
cd "$(dirname "$0")"
exec autoreconf --install --warnings=all
