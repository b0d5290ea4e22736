/*
 * Prints `ready`, then `TIME add|del MAC` for every change of a forwarding entry in this network namespace. TIME is
 * CLOCK_MONOTONIC in nanoseconds, of when the kernel's message was read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void die(const char *what) {
  fprintf(stderr, "fdb-monitor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static unsigned long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (unsigned long long)t.tv_sec * 1000000000u + (unsigned long long)t.tv_nsec;
}

static void tell(struct nlmsghdr *each, unsigned long long at) {
  struct ndmsg *header = NLMSG_DATA(each);
  if (header->ndm_family != AF_BRIDGE) return;
  int left = each->nlmsg_len - NLMSG_LENGTH(sizeof *header);
  for (struct rtattr *a = (void *)(header + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
    uint8_t *m = RTA_DATA(a);
    if (a->rta_type != NDA_LLADDR) continue;
    printf("%llu %s %02x:%02x:%02x:%02x:%02x:%02x\n", at, each->nlmsg_type == RTM_NEWNEIGH ? "add" : "del",
           m[0], m[1], m[2], m[3], m[4], m[5]);
  }
}

int main(void) {
  static char in[65536];
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), size = 4 << 20, group = RTNLGRP_NEIGH;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (fd < 0 || bind(fd, (void *)&address, sizeof address) < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0) die("join");
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    int length = recv(fd, in, sizeof in, 0);
    unsigned long long at = now();
    if (length < 0) die("recv");
    for (struct nlmsghdr *each = (void *)in; NLMSG_OK(each, (unsigned)length); each = NLMSG_NEXT(each, length)) {
      tell(each, at);
    }
    fflush(stdout);
  }
}
