/* Preloaded into a run: kills a process at its k-th fsync, so that every durable write is interrupted once before the
 * rename that follows it and once after.
 *
 * KILL_ROLE  a word of the command line of the processes that count: "rank", "agent"
 * KILL_PLAN  a folder of files 0, 1, 2, ...: each process that counts takes the next of them, by making it vanish; it
 *            holds how many fsyncs are survived, and what happens at the next: it is killed ("rank"), or with its agent
 *            and the command line ("all"), or its agent is ("agent"), which it does not outlive, or the command line
 *            is ("command"), or its thread stands still for ever ("hang"), or all of it until it is woken ("stop"). A third
 *            word: only fsyncs of what a path that ends so names count. What was about to be synced is told in the file of
 *            the turn, by its path. A process that comes to its end writes the number of its fsyncs to the file "syncs".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long due = -1;
static long syncs = 0;
static char how[16] = "";
static char where[256] = "";
static char taken[4200] = "";

static int counts(void) {
  char line[4096];
  const char* role = getenv("KILL_ROLE");
  FILE* file = fopen("/proc/self/cmdline", "r");
  if (role == NULL || file == NULL) return 0;
  size_t length = fread(line, 1, sizeof line - 1, file);
  fclose(file);
  line[length] = 0;
  for (size_t at = 0; at < length; at += strlen(line + at) + 1) {
    if (strcmp(line + at, role) == 0) return 1;
  }
  return 0;
}

__attribute__((constructor)) static void take_turn(void) {
  const char* plan = getenv("KILL_PLAN");
  if (plan == NULL || !counts()) return;
  for (int turn = 0; turn < 1000; ++turn) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", plan, turn);
    snprintf(taken, sizeof taken, "%s.%d", path, (int)getpid());
    if (rename(path, taken) != 0) continue;
    FILE* file = fopen(taken, "r");
    if (file != NULL && fscanf(file, "%ld %15s %255s", &due, how, where) < 1) due = -1;
    if (file != NULL) fclose(file);
    return;
  }
}

__attribute__((destructor)) static void tell(void) {
  char path[4096];
  const char* plan = getenv("KILL_PLAN");
  if (plan == NULL || !counts()) return;
  snprintf(path, sizeof path, "%s/syncs", plan);
  FILE* file = fopen(path, "w");
  if (file == NULL) return;
  fprintf(file, "%ld\n", syncs);
  fclose(file);
}

static pid_t parent_of(pid_t process) {
  char path[64];
  int parent = 0;
  snprintf(path, sizeof path, "/proc/%d/stat", (int)process);
  FILE* file = fopen(path, "r");
  if (file == NULL) return 0;
  if (fscanf(file, "%*d %*s %*c %d", &parent) != 1) parent = 0;
  fclose(file);
  return parent;
}

static void path_of(int fd, char path[4096]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, 4095);
  path[length < 0 ? 0 : length] = 0;
}

static int is_meant(const char* path) {
  size_t length = strlen(path), end = strlen(where);
  return length >= end && strcmp(path + length - end, where) == 0;
}

static void tell_where(const char* path) {
  FILE* file = fopen(taken, "w");
  if (file == NULL) return;
  fprintf(file, "%s\n", path);
  fclose(file);
}

static void come_to_harm(void) {
  pid_t agent = getppid();
  pid_t command_line = parent_of(agent);
  int takes_all = strcmp(how, "all") == 0, takes_agent = strcmp(how, "agent") == 0, takes_command = strcmp(how, "command") == 0;
  if ((takes_all || takes_command) && command_line > 1) kill(command_line, SIGKILL);
  if ((takes_all || takes_agent) && agent > 1) kill(agent, SIGKILL);
  if (takes_command) return;
  if (strcmp(how, "stop") == 0) {
    raise(SIGSTOP);
    return;
  }
  if (!takes_agent && strcmp(how, "hang") != 0) kill(getpid(), SIGKILL);
  for (;;) pause();
}

int fsync(int fd) {
  static int (*real)(int) = NULL;
  if (real == NULL) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  __sync_fetch_and_add(&syncs, 1);
  char path[4096];
  if (due >= 0) path_of(fd, path);
  if (due >= 0 && is_meant(path) && __sync_fetch_and_sub(&due, 1) == 0) {
    tell_where(path);
    come_to_harm();
  }
  return real(fd);
}
