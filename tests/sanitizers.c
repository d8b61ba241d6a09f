/* Linked into ppfs-worker by --enable-sanitizers only: what the sanitizers are to do in a process that runs other
 * people's code. CPython never frees everything, so leaks are not looked for; a job that crashes must die of its own
 * signal as it does without sanitizers, and one that asks for too much memory must get NULL. */
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *__asan_default_options(void) {
    return "detect_leaks=0:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:handle_sigfpe=0:"
           "allocator_may_return_null=1";
}

const char *__ubsan_default_options(void) {
    return "print_stacktrace=1";
}
