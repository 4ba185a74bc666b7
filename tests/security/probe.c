/* What may be done from here: tries each thing in a process of its own and says how it ended.

   Reads /probe.calls (lines `ARCHITECTURE NAME NUMBER`); writes lines `WHAT ERRNO`, 0 where it was
   done, -1 where the process ended in it, -2 where a filter ended it. What is tried harms nothing where it is let through:
   calls get arguments that no kernel takes, files are only opened. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int *result; /* shared with the process that tries */

static int tries(void)
{
    *result = -1;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        alarm(2);
        return 1;
    }
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    kill(-child, SIGKILL);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
        *result = -2;
    return 0;
}

static pid_t outside; /* who waits for this program; 0: it is not seen */

static int signal_outside(void)
{
    errno = EPERM;
    return outside ? kill(outside, 0) : -1;
}

static void done(long value)
{
    *result = value < 0 ? errno : 0;
    _exit(0);
}

static void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf(" %d\n", *result);
    fflush(stdout);
}

#define TRY(expression, ...)                                                                      \
    do {                                                                                          \
        if (tries())                                                                              \
            done(expression);                                                                     \
        say(__VA_ARGS__);                                                                         \
    } while (0)

#if defined __x86_64__
/* A call of a 32-bit program. */
static long call32(long number, long a, long b, long c)
{
    long value;
    __asm__ volatile("int $0x80" : "=a"(value)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(-1L), "D"(-1L) : "memory", "r8", "r9", "r10", "r11");
    if (value < 0 && value > -4096) {
        errno = -value;
        return -1;
    }
    return 0;
}
#endif

static void calls(void)
{
    FILE *file = fopen("/probe.calls", "re");
    char architecture[20], name[60];
    long number;
    while (file && fscanf(file, "%19s %59s %ld", architecture, name, &number) == 3) {
        if (!strcmp(architecture, "native"))
            TRY(syscall(number, -1L, -1L, -1L, -1L, -1L, -1L), "call %s", name);
#if defined __x86_64__
        else
            TRY(call32(number, -1, -1, -1), "call32 %s", name);
#endif
    }
}

static int tmpfs_in_own(int flags)
{
    if (unshare(flags) < 0)
        return -1;
    return mount("x", "/tmp", "tmpfs", 0, NULL);
}

static int ifup(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int handle = socket(AF_INET, SOCK_DGRAM, 0);
    if (ioctl(handle, SIOCGIFFLAGS, &request) < 0)
        return -1;
    return ioctl(handle, SIOCSIFFLAGS, &request); /* as they are */
}

static int listen_on(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address);
}

static int node(const char *folder, mode_t kind, int major, int minor, int open_it)
{
    char path[60];
    snprintf(path, sizeof path, "%s/node.%d", folder, getpid());
    if (mknod(path, kind | 0666, makedev(major, minor)) < 0) {
        if (errno == ENOENT)
            errno = EPERM; /* there is no such folder */
        return -1;
    }
    int handle = open_it ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : 0;
    int fault = errno;
    unlink(path);
    errno = fault;
    return handle;
}

/* The old way out of a root directory: another one below while the working directory is above it. */
static int leave_the_root(void)
{
    struct stat inside, here;
    if (stat("/", &inside) < 0 || chroot("/tmp") < 0)
        return -1;
    for (int up = 0; up < 100; up++)
        if (chdir("..") < 0)
            return -1;
    stat(".", &here);
    errno = EPERM;
    return inside.st_dev == here.st_dev && inside.st_ino == here.st_ino ? -1 : 0;
}

static int all_capabilities(void)
{
    struct { unsigned version; int pid; } header = {0x20080522, 0};
    struct { unsigned effective, permitted, inheritable; } data[2] = {{~0U, ~0U, 0}, {0x1ff, 0x1ff, 0}};
    return syscall(SYS_capset, &header, data);
}

static int attribute(const char *name, const char *value, size_t size)
{
    char path[60];
    snprintf(path, sizeof path, "/tmp/attribute.%d", getpid());
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    int made = setxattr(path, name, value, size, 0);
    int fault = errno;
    unlink(path);
    errno = fault;
    return made;
}

static int immutable(void)
{
    char path[60];
    long flags = 0;
    snprintf(path, sizeof path, "/tmp/immutable.%d", getpid());
    int handle = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0644), fault;
    int made = ioctl(handle, 0x80086601, &flags); /* FS_IOC_GETFLAGS */
    if (made == 0) {
        flags |= 0x10;
        made = ioctl(handle, 0x40086602, &flags);
    }
    fault = errno;
    if (made == 0) {
        flags &= ~0x10L;
        ioctl(handle, 0x40086602, &flags);
    }
    unlink(path);
    errno = fault;
    return made;
}

static int steal_input(void)
{
    char letter = 'x';
    int handle = open("/dev/tty", O_RDWR | O_CLOEXEC);
    return handle < 0 ? -1 : ioctl(handle, TIOCSTI, &letter);
}

static int same_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now);
}

static int more_files(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_max++;
    return setrlimit(RLIMIT_NOFILE, &limit);
}

static void things(void)
{
    static const struct { const char *name; unsigned flag; const char *file; } spaces[] = {
        {"mount", 0x20000, "mnt"}, {"cgroup", 0x2000000, "cgroup"}, {"uts", 0x4000000, "uts"},
        {"ipc", 0x8000000, "ipc"}, {"user", 0x10000000, "user"}, {"pid", 0x20000000, "pid"},
        {"network", 0x40000000, "net"}, {"time", 0x80, "time"}};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) {
        char path[40];
        unsigned long clone3[11] = {spaces[i].flag, 0, 0, 0, SIGCHLD};
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i].file);
        TRY(unshare(spaces[i].flag), "unshare %s", spaces[i].name);
        TRY(syscall(SYS_clone, spaces[i].flag | SIGCHLD, 0L, 0L, 0L, 0L), "clone %s", spaces[i].name);
        TRY(syscall(SYS_clone3, clone3, 88L), "clone3 %s", spaces[i].name);
        TRY(setns(open(path, O_RDONLY | O_CLOEXEC), 0), "setns %s", spaces[i].name);
    }
    TRY(tmpfs_in_own(CLONE_NEWUSER | CLONE_NEWNS), "mount in a user namespace");
    TRY(tmpfs_in_own(CLONE_NEWNS), "mount in a mount namespace");
    TRY(mount("x", "/tmp", "tmpfs", 0, NULL), "mount tmpfs");
    TRY(mount("x", "/tmp", "proc", 0, NULL), "mount proc");
    TRY(mount("x", "/tmp", "sysfs", 0, NULL), "mount sysfs");
    TRY(mount("x", "/tmp", "cgroup", 0, "memory"), "mount cgroup");
    TRY(mount("x", "/tmp", "cgroup2", 0, NULL), "mount cgroup2");
    TRY(mount("x", "/tmp", "devtmpfs", 0, NULL), "mount devtmpfs");
    TRY(mount("/tmp", "/srv", NULL, MS_BIND, NULL), "mount bind");
    TRY(mount(NULL, "/proc/sys", NULL, MS_BIND | MS_REMOUNT, NULL), "remount /proc/sys");
    TRY(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), "mount shared");
    TRY(umount2("/proc", MNT_DETACH), "umount /proc");
    TRY(syscall(430, "tmpfs", 0L), "fsopen");
    TRY(syscall(428, AT_FDCWD, "/", 1L), "open_tree");
    TRY(chroot("/tmp"), "chroot");
    TRY(leave_the_root(), "leave the root");
    TRY(syscall(SYS_pivot_root, ".", "."), "pivot_root");

    for (int family = 0; family < 48; family++) {
        static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
        for (int i = 0; i < 4; i++) {
            TRY(socket(family, types[i], 0), "socket %d %d", family, types[i]);
#if defined __x86_64__
            if (family == AF_INET || family == 38 || family == 40) {
                unsigned *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
                words[0] = family, words[1] = types[i], words[2] = 0;
                TRY(call32(102, 1, (long)words, 0), "socketcall32 %d %d", family, types[i]);
                TRY(call32(359, family, types[i], 0), "socket32 %d %d", family, types[i]);
            }
#endif
        }
    }
    TRY(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw socket");
    TRY(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), "ping socket");
    TRY(socket(AF_PACKET, SOCK_RAW, htons(3)), "packet socket");
    for (int protocol = 0; protocol < 24; protocol++)
        TRY(socket(AF_NETLINK, SOCK_RAW, protocol), "netlink %d", protocol);
    TRY(listen_on(80), "port 80");
    TRY(ifup(), "set an interface's flags");

    static const char *folders[] = {"/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/dev/pts"};
    static const struct { const char *name; mode_t kind; int major, minor; } nodes[] = {
        {"null", S_IFCHR, 1, 3}, {"mem", S_IFCHR, 1, 1}, {"kmsg", S_IFCHR, 1, 11},
        {"console", S_IFCHR, 5, 1}, {"tty1", S_IFCHR, 4, 1}, {"ttyS0", S_IFCHR, 4, 64},
        {"ptmx", S_IFCHR, 5, 2}, {"misc", S_IFCHR, 10, 1}, {"fuse", S_IFCHR, 10, 229}, {"tun", S_IFCHR, 10, 200},
        {"kvm", S_IFCHR, 10, 232}, {"loop-control", S_IFCHR, 10, 237}, {"vhost-vsock", S_IFCHR, 10, 241},
        {"ram", S_IFBLK, 1, 0}, {"loop", S_IFBLK, 7, 0}, {"sda", S_IFBLK, 8, 0}, {"vda", S_IFBLK, 254, 0},
        {"dm", S_IFBLK, 253, 0}, {"whiteout", S_IFCHR, 0, 0}, {"pts", S_IFCHR, 136, 0}, {"usb", S_IFCHR, 189, 0}};
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++)
        for (int folder = 0; folder < 5; folder++)
            for (int open_it = 0; open_it < 2; open_it++)
                TRY(node(folders[folder], nodes[i].kind, nodes[i].major, nodes[i].minor, open_it),
                    "%s %s in %s", open_it ? "open own node" : "make node", nodes[i].name,
                    folders[folder]);
    TRY(node("/tmp", S_IFIFO, 0, 0, 0), "make node fifo");
    TRY(node("/tmp", S_IFSOCK, 0, 0, 0), "make node socket");

    TRY(syscall(SYS_add_key, "user", "probe", "x", 1L, -3L), "add_key");
    TRY(syscall(SYS_keyctl, 0L, -3L, 1L), "keyctl");
    TRY(syscall(SYS_request_key, "user", "probe", NULL, 0L), "request_key");
    unsigned char blank[256] = {0};
    TRY(syscall(SYS_bpf, 0L, blank, 128L), "bpf map");
    TRY(syscall(SYS_bpf, 5L, blank, 128L), "bpf program");
    ((unsigned *)blank)[0] = 1, ((unsigned *)blank)[1] = 128; /* software, its size; user and kernel */
    TRY(syscall(SYS_perf_event_open, blank, 0L, -1L, -1L, 0L), "perf_event_open");
    TRY(syscall(SYS_userfaultfd, 0L), "userfaultfd");
    TRY(syscall(SYS_userfaultfd, 1L), "userfaultfd of user mode");
    memset(blank, 0, sizeof blank);
    TRY(syscall(425, 4L, blank), "io_uring_setup");
    TRY(syscall(SYS_memfd_create, "x", 1L), "memfd_create");
    TRY(syscall(447, 0L), "memfd_secret");
    TRY(syscall(SYS_fanotify_init, 0L, 0L), "fanotify_init");
    TRY(syscall(SYS_fanotify_init, 0x200L, 0L), "fanotify_init of a user");
    int mount_id;
    ((unsigned *)blank)[0] = 128;
    TRY(syscall(SYS_name_to_handle_at, AT_FDCWD, "/", blank, &mount_id, 0L), "name_to_handle_at");
    TRY(syscall(SYS_open_by_handle_at, AT_FDCWD, blank, 0L), "open_by_handle_at");
    TRY(syscall(SYS_process_vm_readv, getppid(), NULL, 0L, NULL, 0L, 0L), "process_vm_readv");
    TRY(syscall(SYS_kcmp, getpid(), getppid(), 0L, 0L, 0L), "kcmp");
    TRY(syscall(434, getppid(), 0L), "pidfd_open");
    TRY(syscall(438, syscall(434, getppid(), 0L), 1L, 0L), "pidfd_getfd");
    TRY(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace me");
    TRY(ptrace(PTRACE_SEIZE, getppid(), 0, 0), "ptrace the parent");
    TRY(ptrace(PTRACE_SEIZE, 1, 0, 0), "ptrace process 1");
    static const unsigned long personalities[] = {0, 8, 0x20000, 0x20008, 0x40000, 0x400000, 6, 3};
    for (int i = 0; i < 8; i++)
        TRY(syscall(SYS_personality, personalities[i]), "personality %lx", personalities[i]);
    TRY(same_time(), "set the time");
    struct timex nothing = {.modes = 0}, frequency = {.modes = ADJ_TICK, .tick = 1};
    TRY(adjtimex(&nothing), "adjtimex reads");
    TRY(adjtimex(&frequency), "adjtimex sets"); /* a tick that no kernel takes */
    TRY(setpriority(PRIO_PROCESS, 0, -5), "nice -5");
    struct sched_param first = {.sched_priority = 1};
    TRY(sched_setscheduler(0, SCHED_FIFO, &first), "real-time priority");
    TRY(syscall(SYS_ioprio_set, 1L, 0L, 1L << 13), "real-time input");
    TRY(more_files(), "a higher hard limit");
    TRY(mlock(blank, 64), "mlock");
    TRY(setuid(1), "setuid");
    TRY(setgid(1), "setgid");
    TRY(setgroups(0, NULL), "setgroups");
    TRY(all_capabilities(), "all capabilities");
    TRY(prctl(PR_CAPBSET_DROP, 0, 0, 0, 0), "drop from the bounding set");
    TRY(prctl(PR_SET_SECUREBITS, 0, 0, 0, 0), "securebits");
    TRY(prctl(PR_SET_MM, PR_SET_MM_BRK, 0, 0, 0), "PR_SET_MM");
    TRY(prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0), "timer slack");
    TRY(sethostname("localhost", 9), "sethostname");
    TRY(syscall(SYS_setdomainname, "(none)", 6L), "setdomainname");
    TRY(syscall(SYS_syslog, 10L, NULL, 0L), "syslog");
    TRY(syscall(SYS_syslog, 3L, blank, 64L), "syslog reads");
    TRY(steal_input(), "TIOCSTI");
    TRY(attribute("user.x", "x", 1), "setxattr user");
    TRY(attribute("trusted.x", "x", 1), "setxattr trusted");
    TRY(attribute("security.x", "x", 1), "setxattr security");
    TRY(attribute("security.capability", "\1\0\0\2\0\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0", 20), "setxattr capability");
    TRY(immutable(), "make immutable");
    TRY(chown("/tmp", 0, 0), "chown");
    TRY(kill(1, 0), "signal process 1");
    TRY(signal_outside(), "signal a process outside");
#if defined __x86_64__
    TRY(syscall(SYS_iopl, 3L), "iopl");
    TRY(syscall(SYS_ioperm, 0x80L, 1L, 1L), "ioperm");
    TRY(syscall(SYS_modify_ldt, 0L, blank, 16L), "modify_ldt");
    TRY(syscall(SYS_getpid | 0x40000000L), "x32 getpid");
    TRY(syscall(SYS_mount | 0x40000000L, -1L, -1L, -1L, -1L, -1L), "x32 mount");
#endif
}

/* Every file below: whether it can be opened for reading and for writing. */
static void files(const char *folder)
{
    DIR *handle = opendir(folder);
    struct dirent *each;
    while (handle && (each = readdir(handle))) {
        char path[4096];
        struct stat status;
        int in_proc = !strcmp(folder, "/proc");
        if (!strcmp(each->d_name, ".") || !strcmp(each->d_name, "..") ||
            (!strncmp(folder, "/proc", 5) && each->d_name[0] >= '0' && each->d_name[0] <= '9'))
            continue;
        if (in_proc && !strcmp(each->d_name, "thread-self"))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, each->d_name);
        if (lstat(path, &status) < 0)
            continue;
        if (S_ISDIR(status.st_mode) || (in_proc && !strcmp(each->d_name, "self"))) {
            files(path);
        } else if (!S_ISLNK(status.st_mode)) {
            int reads = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
            int writes = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
            *result = 0;
            if (reads >= 0)
                say("read %s", path);
            if (writes >= 0)
                say("write %s", path);
            close(reads);
            close(writes);
        }
    }
    if (handle)
        closedir(handle);
}

int main(int count, char **arguments)
{
    result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count > 1 && !freopen(arguments[1], "we", stdout))
        return 1;
    outside = getppid();
    calls();
    things();
    files("/proc");
    files("/sys");
    files("/dev");
    return 0;
}
