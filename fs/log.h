/* The log: lines on stderr. In the background stderr is STATE/ppfs.log, which is begun anew at 1 MiB (the old one is
 * kept as ppfs.log.1). */
#ifndef PPFS_LOG_H
#define PPFS_LOG_H

/* From now on stderr is ppfs.log in the directory of that path, with time and process. If the path is gone or not to be
 * trusted, the log is in the directory of the descriptor, which the log owns. 0 or -errno. */
int log_to_file(int directory, const char *path);
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2))); /* one sentence; net/printable.h */
#endif
