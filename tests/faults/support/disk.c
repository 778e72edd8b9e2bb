/* Makes writing to spools fail with the errno that the file FAULTS_DISK holds, while it exists. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int failure(const char *path) {
    const char *switch_file = getenv("FAULTS_DISK");
    int number = 0;
    FILE *file;
    if (!switch_file || !strstr(path, ".spool") || !(file = fopen(switch_file, "r")))
        return 0;
    if (fscanf(file, "%d", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

static int failure_of(int descriptor) {
    char link[64], path[4096];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return failure(path);
}

#define WRITES(name, offset_type)                                                             \
    ssize_t name(int descriptor, const void *bytes, size_t count, offset_type offset) {       \
        static ssize_t (*real)(int, const void *, size_t, offset_type);                       \
        int number = failure_of(descriptor);                                                  \
        if (number) {                                                                         \
            errno = number;                                                                   \
            return -1;                                                                        \
        }                                                                                     \
        if (!real)                                                                            \
            real = dlsym(RTLD_NEXT, #name);                                                   \
        return real(descriptor, bytes, count, offset);                                        \
    }

/* A file system that is read-only can't be opened for writing either. */
#define OPENS(name)                                                                           \
    int name(const char *path, int flags, ...) {                                              \
        static int (*real)(const char *, int, ...);                                           \
        mode_t mode = 0;                                                                      \
        va_list rest;                                                                         \
        va_start(rest, flags);                                                                \
        if (flags & O_CREAT)                                                                  \
            mode = va_arg(rest, mode_t);                                                      \
        va_end(rest);                                                                         \
        if ((flags & O_ACCMODE) != O_RDONLY && failure(path) == EROFS) {                      \
            errno = EROFS;                                                                    \
            return -1;                                                                        \
        }                                                                                     \
        if (!real)                                                                            \
            real = dlsym(RTLD_NEXT, #name);                                                   \
        return real(path, flags, mode);                                                       \
    }

WRITES(pwrite, off_t)
WRITES(pwrite64, off64_t)
OPENS(open)
OPENS(open64)
