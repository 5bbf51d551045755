/*
 * Read before each C file of QuickJS-NG (the build script passes -include). It closes every way in which the C library
 * would reach the world, so that the module imports the host's functions and no WASI at all:
 *
 * - clocks come from the host, which records what it answered; the time zone is UTC;
 * - nothing is printed; abort and a failed assertion trap, which ends the instance.
 *
 * QuickJS-NG switches its stack check off where __wasi__ is defined, so a deep recursion would overrun the stack of the
 * module instead of throwing a RangeError. The macro goes once the headers that need it have been read. Everything else it
 * decides there is decided the same way by EMSCRIPTEN, which rquickjs-sys defines; only the header of
 * malloc_usable_size hangs on it, and takes __GLIBC__ as well.
 */
#ifndef CANTRIP_LIBC_H
#define CANTRIP_LIBC_H

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#undef __wasi__
#define __GLIBC__ 2

__attribute__((import_module("cantrip"), import_name("clock_ns"))) int64_t cantrip_clock_ns(void);

static inline int cantrip_gettimeofday(struct timeval *tv, void *zone) {
    int64_t now = cantrip_clock_ns();
    (void)zone;
    tv->tv_sec = now / 1000000000;
    tv->tv_usec = (int32_t)(now % 1000000000 / 1000);
    return 0;
}

static inline int cantrip_clock_gettime(struct timespec *ts) {
    int64_t now = cantrip_clock_ns();
    ts->tv_sec = now / 1000000000;
    ts->tv_nsec = (int32_t)(now % 1000000000);
    return 0;
}

#define gettimeofday(tv, zone) cantrip_gettimeofday(tv, zone)
#define clock_gettime(clock, ts) cantrip_clock_gettime(ts)
#define localtime_r(time, tm) gmtime_r(time, tm)

#define abort() __builtin_trap()
/* assert.h may be read again and defines assert anew each time; this is what it calls. */
#define __assert_fail(...) __builtin_trap()

static inline int cantrip_no_output(const char *format, ...) {
    (void)format;
    return 0;
}
#define printf(...) cantrip_no_output(__VA_ARGS__)
#define fprintf(file, ...) cantrip_no_output(__VA_ARGS__)
#define putchar(c) ((void)(c))
#define fputc(c, file) ((void)(c))
#define fputs(s, file) ((void)(s))
#define puts(s) ((void)(s))
#define fwrite(p, size, n, file) ((void)(p), (size_t)0)

/*
 * What is left of the C library's streams: QuickJS formats into buffers and prints nothing, but the formatting functions
 * bring the streams along, and those would import WASI. These take their place at link time.
 */
__attribute__((weak)) size_t __stdio_write(FILE *stream, const unsigned char *bytes, size_t length) {
    (void)stream; (void)bytes;
    return length;
}
__attribute__((weak)) size_t __stdout_write(FILE *stream, const unsigned char *bytes, size_t length) {
    (void)stream; (void)bytes;
    return length;
}
__attribute__((weak)) int __stdio_close(FILE *stream) {
    (void)stream;
    return 0;
}
__attribute__((weak)) off_t __stdio_seek(FILE *stream, off_t offset, int whence) {
    (void)stream; (void)offset; (void)whence;
    return -1;
}

#endif
