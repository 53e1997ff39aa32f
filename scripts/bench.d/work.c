/* What scripts/bench has timed: each kind of work in a loop, without an interpreter in between.
 * Prints seconds. Every failure ends it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long long state = 1;

static unsigned long long next(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
    perror(what);
    _exit(1);
}

/* Reads a file from its beginning to its end. */
static void sequential(const char *path, size_t block) {
    char *buffer = malloc(block);
    int fd = open(path, O_RDONLY);
    ssize_t got;
    if (fd < 0) die(path);
    while ((got = read(fd, buffer, block)) > 0) {}
    if (got < 0) die(path);
    close(fd);
}

/* Reads 4 KiB pages of a mapping at random. */
static void mapped(const char *path, long count) {
    struct stat found;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &found) < 0) die(path);
    volatile char *data = mmap(NULL, found.st_size, PROT_READ, MAP_SHARED, fd, 0);
    static char page[4096];
    unsigned long long seen = 0;
    if (data == MAP_FAILED) die("mmap");
    for (long i = 0; i < count; i++) {
        memcpy(page, (char *)data + next() % (found.st_size / 4096) * 4096, 4096);
        seen += page[next() % 4096];
    }
    if (seen == 0) fputs("all zero\n", stderr);
    munmap((void *)data, found.st_size);
    close(fd);
}

static void image(char *path, const char *folder, unsigned long long number) {
    snprintf(path, 4096, "%s/image-%07llu.raw", folder, number);
}

/* Opens, reads 4 KiB of and closes images at random. */
static void opens(const char *folder, long count, long images) {
    char path[4096], page[4096];
    for (long i = 0; i < count; i++) {
        image(path, folder, next() % images);
        int fd = open(path, O_RDONLY);
        if (fd < 0 || read(fd, page, sizeof page) != sizeof page) die(path);
        close(fd);
    }
}

/* Looks names up that lie far from each other, each once: what is looked up again the kernel has. */
static void lookups(const char *folder, long count, long images) {
    char path[4096];
    struct stat found;
    unsigned long long at = next();
    for (long i = 0; i < count; i++) {
        /* A prime, so that it comes by each. */
        at += 7919;
        image(path, folder, at % images);
        if (stat(path, &found) < 0) die(path);
    }
}

/* Writes files that are all different, each durable when it is there. */
static void files(const char *folder, int is_native, long count, size_t size, int writers,
                  const char *tag) {
    for (int writer = 0; writer < writers; writer++) {
        if (fork()) continue;
        char *data = malloc(size), path[4096], draft[4200];
        int directory = open(folder, O_RDONLY | O_DIRECTORY);
        state = (unsigned long long)time(NULL) * 1000003 + getpid() * 7919ULL + 1;
        for (long i = 0; i < count / writers; i++) {
            for (size_t at = 0; at + 8 <= size; at += 8) {
                unsigned long long word = next();
                memcpy(data + at, &word, 8);
            }
            snprintf(path, sizeof path, "%s/%s-%d-%ld", folder, tag, writer, i);
            snprintf(draft, sizeof draft, "%s%s", path, is_native ? ".new" : "");
            int fd = open(draft, O_CREAT | O_WRONLY | O_TRUNC, 0644);
            if (fd < 0 || write(fd, data, size) != (ssize_t)size) die(draft);
            if (is_native && fsync(fd) < 0) die("fsync");
            if (close(fd) < 0) die("close");
            if (is_native && (rename(draft, path) < 0 || fsync(directory) < 0)) die(path);
        }
        _exit(0);
    }
    int status, failed = 0;
    while (wait(&status) > 0) failed |= status;
    if (failed) exit(1);
}

/* Has memory at hand: where the machine gets it only when it is first touched, that is not what is measured. */
static void touch(size_t gigabytes) {
    size_t size = gigabytes << 30;
    char *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) die("mmap");
    for (size_t at = 0; at < size; at += 4096) data[at] = 1;
    munmap(data, size);
}

int main(int count, char **word) {
    if (count < 3) return 2;
    const char *kind = word[1];
    double began = now();
    state = (unsigned long long)(began * 1e9) | 1;
    if (!strcmp(kind, "sequential")) sequential(word[2], 1 << 20);
    else if (!strcmp(kind, "mapped") && count == 4) mapped(word[2], atol(word[3]));
    else if (!strcmp(kind, "opens") && count == 5) opens(word[2], atol(word[3]), atol(word[4]));
    else if (!strcmp(kind, "lookups") && count == 5) lookups(word[2], atol(word[3]), atol(word[4]));
    else if (!strcmp(kind, "touch")) touch(atol(word[2]));
    else if (!strcmp(kind, "files") && count == 8)
        files(word[2], !strcmp(word[3], "native"), atol(word[4]), atol(word[5]), atoi(word[6]), word[7]);
    else return 2;
    printf("%.6f\n", now() - began);
    return 0;
}
