/* A daemon that does what its arguments say, in their order, so that a test can have one of any kind.
 *
 *   note FILE     appends its pid and a new line to FILE
 *   say TEXT      prints TEXT and a new line on stdout
 *   listen PATH   listens on a Unix socket
 *   bind PATH     binds and does not listen;  then-listen  listens on what was bound
 *   late MS       waits so long
 *   double-fork   goes on in a grandchild of a session of its own; the first process exits with 0
 *   forget        closes every descriptor above the standard three
 *   leave         starts a child that ignores SIGTERM and lives on;  leave-away  the same in a session of its own
 *   stubborn      ignores SIGTERM
 *   pidfile FILE  writes its pid there, in place of what was there
 *   byte          writes a byte to the descriptor in FM_WATCH_READY_FD, and closes it
 *   notify        sends READY=1 to NOTIFY_SOCKET
 *   chatter N     prints N lines of 100 bytes
 *   exit CODE     exits
 *   serve         answers every line of every connection: "pid" with its pid, all else with "pong" and its pid
 *
 * Without `serve` or `exit` at the end it waits for ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int server = -1;

static void fail(const char *what) {
    fprintf(stderr, "daemon: %s: %s\n", what, strerror(errno));
    exit(99);
}

static struct sockaddr_un address_of(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address.sun_path, path);
    return address;
}

static void bind_at(const char *path) {
    struct sockaddr_un address = address_of(path);
    server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) < 0) fail(path);
}

static void append_line(const char *path, const char *format, long number) {
    char line[64];
    int length = snprintf(line, sizeof line, format, number);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length) fail(path);
    close(file);
}

static void wait_ms(long ms) {
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&time, &time) < 0 && errno == EINTR) {}
}

static void go_on_in_a_grandchild(void) {
    fflush(NULL);
    if (fork() > 0) _exit(0);
    setsid();
    if (fork() > 0) _exit(0);
}

static void leave_a_child(int is_away) {
    fflush(NULL);
    if (fork() != 0) return;
    if (is_away) setsid();
    signal(SIGTERM, SIG_IGN);
    for (;;) pause();
}

static void tell_readiness(void) {
    const char *path = getenv("NOTIFY_SOCKET");
    if (!path) return;
    struct sockaddr_un address = address_of(path);
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (path[0] == '@') address.sun_path[0] = 0;
    else length = sizeof address;
    int one = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (sendto(one, "READY=1\n", 8, 0, (struct sockaddr *)&address, length) < 0) fail("notify");
    close(one);
}

static void write_a_byte(void) {
    const char *number = getenv("FM_WATCH_READY_FD");
    if (!number || write(atoi(number), "!", 1) != 1) fail("FM_WATCH_READY_FD");
    close(atoi(number));
}

static void serve(void) {
    struct pollfd polled[256] = {{.fd = server, .events = POLLIN}};
    nfds_t count = 1;
    for (;;) {
        if (poll(polled, count, -1) < 0) continue;
        for (nfds_t i = count; i-- > 1;) {
            if (!polled[i].revents) continue;
            char word[64], answer[64];
            ssize_t taken = read(polled[i].fd, word, sizeof word);
            int is_question = taken >= 3 && memcmp(word, "pid", 3) == 0;
            int length = snprintf(answer, sizeof answer, is_question ? "%ld\n" : "pong %ld\n", (long)getpid());
            if (taken > 0 && send(polled[i].fd, answer, (size_t)length, MSG_NOSIGNAL) > 0) continue;
            close(polled[i].fd);
            polled[i] = polled[--count];
        }
        if (polled[0].revents && count < 256) {
            int one = accept4(server, NULL, NULL, SOCK_CLOEXEC);
            if (one >= 0) polled[count++] = (struct pollfd){.fd = one, .events = POLLIN};
        }
    }
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 1; i < count; i++) {
        const char *word = words[i], *value = i + 1 < count ? words[i + 1] : "";
        if (!strcmp(word, "note")) append_line(value, "%ld\n", (long)getpid()), i++;
        else if (!strcmp(word, "say")) puts(value), i++;
        else if (!strcmp(word, "bind")) bind_at(value), i++;
        else if (!strcmp(word, "then-listen")) { if (listen(server, 128) < 0) fail("listen"); }
        else if (!strcmp(word, "listen")) { bind_at(value); if (listen(server, 128) < 0) fail(value); i++; }
        else if (!strcmp(word, "late")) wait_ms(atol(value)), i++;
        else if (!strcmp(word, "double-fork")) go_on_in_a_grandchild();
        else if (!strcmp(word, "forget")) { for (int fd = 3; fd < 1024; fd++) close(fd); }
        else if (!strcmp(word, "leave")) leave_a_child(0);
        else if (!strcmp(word, "leave-away")) leave_a_child(1);
        else if (!strcmp(word, "stubborn")) signal(SIGTERM, SIG_IGN);
        else if (!strcmp(word, "pidfile")) unlink(value), append_line(value, "%ld\n", (long)getpid()), i++;
        else if (!strcmp(word, "byte")) write_a_byte();
        else if (!strcmp(word, "notify")) tell_readiness();
        else if (!strcmp(word, "chatter")) { for (long n = atol(value); n > 0; n--) printf("%0*ld\n", 99, n); i++; }
        else if (!strcmp(word, "exit")) { fflush(NULL); exit(atoi(value)); }
        else if (!strcmp(word, "serve")) serve();
        else { errno = EINVAL; fail(word); }
    }
    for (;;) pause();
}
