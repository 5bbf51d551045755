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

/*
 * Recursion uses two stacks: the module's own, which QuickJS-NG looks at, and the host's, where compiled code keeps what it
 * can. The functions that parse, print or walk use ten times more of the host's than of the module's, so the host's would
 * end first, and that ends the instance. Depth must also not depend on the machine, or a replay elsewhere would differ; so
 * nothing may look at the host's. Instead, what a level takes of the module's stack is brought into proportion:
 *
 * - A function that checks the depth takes some of the module's stack for nothing while it runs. That costs no time. The
 *   calls of functions pass a size that is no constant, have frames of their own, and take no more.
 * - The parser checks in its scanner (next_token, size 1000), which has returned before the parser goes deeper. It may only
 *   use the stack's first part, and what lies beyond counts as an overflow.
 * - Iterator helpers (js_iterator_…) call each other without a check, and get one, three quarters down; so does
 *   instanceof, for functions that are bound again and again.
 *
 * The definitions of these functions are told from their uses by the first word of the first parameter.
 */
#define CANTRIP_TAKEN_BYTES 192
#define CANTRIP_PARSER_LEAVES_BYTES (200 * 1024)
#define CANTRIP_ITERATORS_LEAVE_BYTES (64 * 1024)
#define CANTRIP_SECOND(first, second, ...) second
#define CANTRIP_PICK(...) CANTRIP_SECOND(__VA_ARGS__, ~)
#define CANTRIP_AT_JSRuntime ~, js_check_stack_overflow_plain,
#define CANTRIP_AT_void ~, lre_check_stack_overflow_plain,
#define js_check_stack_overflow(at, size) CANTRIP_PICK(CANTRIP_AT_##at, js_check_stack_overflow_taking)(at, size)
#define lre_check_stack_overflow(at, size) CANTRIP_PICK(CANTRIP_AT_##at, lre_check_stack_overflow_taking)(at, size)
#define CANTRIP_NEXT_JSContext ~, JS_IteratorNext_plain,
#define CANTRIP_NEXT2_JSContext ~, JS_IteratorNext2_plain,
#define CANTRIP_INSTANCE_JSContext ~, JS_IsInstanceOf_plain,
#define JS_IsInstanceOf(at, ...) CANTRIP_PICK(CANTRIP_INSTANCE_##at, JS_IsInstanceOf_checked)(at, __VA_ARGS__)
#define JS_IteratorNext(at, ...) CANTRIP_PICK(CANTRIP_NEXT_##at, JS_IteratorNext_checked)(at, __VA_ARGS__)
#define JS_IteratorNext2(at, ...) CANTRIP_PICK(CANTRIP_NEXT2_##at, JS_IteratorNext2_checked)(at, __VA_ARGS__)

#define CANTRIP_IN_PARSER(size) (__builtin_constant_p(size) && (size) == 1000 && __func__[0] == 'n')
#define CANTRIP_TAKE(size) ({ \
    char taken[__builtin_constant_p(size) ? CANTRIP_TAKEN_BYTES : 1]; \
    __asm__ volatile("" : : "r"(taken) : "memory"); \
})
#define js_check_stack_overflow_taking(at, size) \
    (CANTRIP_TAKE(size), js_check_stack_overflow_plain(at, CANTRIP_IN_PARSER(size) ? CANTRIP_PARSER_LEAVES_BYTES : (size)))
#define lre_check_stack_overflow_taking(at, size) (CANTRIP_TAKE(size), lre_check_stack_overflow_plain(at, size))
#define CANTRIP_IN_ITERATOR (__func__[0] == 'j' && __func__[3] == 'i')
#define CANTRIP_NEXT_CHECKED(next, ctx, enum_obj, method, argc, argv, pdone) \
    (CANTRIP_IN_ITERATOR && js_check_stack_overflow_plain((ctx)->rt, CANTRIP_ITERATORS_LEAVE_BYTES) \
         ? (*(pdone) = 0, JS_ThrowStackOverflow(ctx)) \
         : next(ctx, enum_obj, method, argc, argv, pdone))
#define JS_IsInstanceOf_checked(ctx, value, type) \
    (js_check_stack_overflow_taking((ctx)->rt, 0) \
         ? (JS_ThrowStackOverflow(ctx), -1) \
         : JS_IsInstanceOf_plain(ctx, value, type))
#define JS_IteratorNext_checked(...) CANTRIP_NEXT_CHECKED(JS_IteratorNext_plain, __VA_ARGS__)
#define JS_IteratorNext2_checked(...) CANTRIP_NEXT_CHECKED(JS_IteratorNext2_plain, __VA_ARGS__)

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
