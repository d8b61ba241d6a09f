/* The version, from the build. */
#ifndef PPFS_VERSION_H
#define PPFS_VERSION_H
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifndef PPFS_VERSION
#define PPFS_VERSION PACKAGE_VERSION
#endif
#endif
