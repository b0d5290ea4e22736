/*
 * What the kernel itself needs for the agent's work: the same netlink messages in a tight loop.
 *
 *   floor endpoints   makes an overlay of its own; for each number N on standard input: N veth pairs from it into
 *                     the host's namespace, as `plug` in overlay/endpoint.ts; prints N durations in nanoseconds
 *   floor attached    the same into a namespace of its own, where the far end gets an address and is brought up
 *   floor entries     for each number N: a VXLAN in a fresh namespace gets N ARP and N FDB entries in batches of
 *                     128, acknowledged at the last; prints one duration in nanoseconds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 128
#define GROUP 0x5a4e
#define MTU 1450

static char out[256 * 1024];
static size_t used;
static struct nlmsghdr *message;
static uint32_t sequence;

static void die(const char *what, int error) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
  exit(1);
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int route_socket(void) {
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), size = 4 << 20, one = 1;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (fd < 0 || bind(fd, (void *)&address, sizeof address) < 0) die("socket", errno);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof one);
  return fd;
}

static void *put(const void *bytes, size_t length) {
  void *at = out + used;
  if (bytes) memcpy(at, bytes, length);
  else memset(at, 0, length);
  used += NLMSG_ALIGN(length);
  return at;
}

static void begin(int type, int flags) {
  message = put(NULL, sizeof *message);
  message->nlmsg_type = type;
  message->nlmsg_flags = NLM_F_REQUEST | flags;
  message->nlmsg_seq = ++sequence;
}

static void end(void) { message->nlmsg_len = out + used - (char *)message; }

static struct rtattr *attribute(int type, const void *bytes, size_t length) {
  struct rtattr head = {.rta_len = RTA_LENGTH(length), .rta_type = type}, *at = put(&head, sizeof head);
  if (length) put(bytes, length);
  return at;
}

static void attribute_u32(int type, uint32_t value) { attribute(type, &value, sizeof value); }
static void attribute_u8(int type, uint8_t value) { attribute(type, &value, sizeof value); }
static void attribute_text(int type, const char *text) { attribute(type, text, strlen(text) + 1); }
static struct rtattr *nest(int type) { return attribute(type, NULL, 0); }
static void unnest(struct rtattr *at) { at->rta_len = out + used - (char *)at; }

static void link_header(int index, int up) {
  struct ifinfomsg header = {.ifi_index = index, .ifi_flags = up ? IFF_UP : 0, .ifi_change = up ? IFF_UP : 0};
  put(&header, sizeof header);
}

static void neighbour_header(int family, int index, int state, int flags) {
  struct ndmsg header = {.ndm_family = family, .ndm_ifindex = index, .ndm_state = state, .ndm_flags = flags};
  put(&header, sizeof header);
}

/* Sends what was written, its last message with an acknowledgement; waits for that. The interface index of a link
 * that came back, if one did. */
static int exchange(int fd, const char *what) {
  static char in[65536];
  int index = 0;
  message->nlmsg_flags |= NLM_F_ACK;
  if (send(fd, out, used, 0) < 0) die(what, errno);
  used = 0;
  for (;;) {
    int length = recv(fd, in, sizeof in, 0);
    if (length < 0) die(what, errno);
    for (struct nlmsghdr *each = (void *)in; NLMSG_OK(each, (unsigned)length); each = NLMSG_NEXT(each, length)) {
      if (each->nlmsg_type == RTM_NEWLINK) index = ((struct ifinfomsg *)NLMSG_DATA(each))->ifi_index;
      if (each->nlmsg_type != NLMSG_ERROR) continue;
      int error = -((struct nlmsgerr *)NLMSG_DATA(each))->error;
      if (error) die(what, error);
      if (each->nlmsg_seq == sequence) return index;
    }
  }
}

static void new_link(const char *name, int index, const char *kind) {
  begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  link_header(index, 1);
  attribute_text(IFLA_IFNAME, name);
  attribute_u32(IFLA_MTU, MTU);
  struct rtattr *info = nest(IFLA_LINKINFO);
  attribute_text(IFLA_INFO_KIND, kind);
  if (!strcmp(kind, "vxlan")) {
    struct rtattr *data = nest(IFLA_INFO_DATA);
    uint16_t port = 0x4d13; /* 4941 in network order: no other VXLAN's */
    attribute_u32(IFLA_VXLAN_ID, 77);
    attribute_u8(IFLA_VXLAN_LEARNING, 0);
    attribute(IFLA_VXLAN_PORT, &port, sizeof port);
    unnest(data);
  }
  if (!strcmp(kind, "bridge")) {
    struct rtattr *data = nest(IFLA_INFO_DATA);
    attribute_u8(IFLA_BR_MCAST_SNOOPING, 0);
    unnest(data);
  }
  unnest(info);
  end();
}

static void port_settings(const char *name) {
  begin(RTM_NEWLINK, 0);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, name);
  struct rtattr *info = nest(IFLA_LINKINFO);
  attribute_text(IFLA_INFO_SLAVE_KIND, "bridge");
  struct rtattr *data = nest(IFLA_INFO_SLAVE_DATA);
  attribute_u8(IFLA_BRPORT_LEARNING, 0);
  attribute_u8(IFLA_BRPORT_UNICAST_FLOOD, 0);
  unnest(data);
  unnest(info);
  end();
}

static void new_veth(const char *name, const char *far, const uint8_t *mac, int master, int target) {
  begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, name);
  attribute_u32(IFLA_MTU, MTU);
  attribute_u32(IFLA_MASTER, master);
  struct rtattr *info = nest(IFLA_LINKINFO);
  attribute_text(IFLA_INFO_KIND, "veth");
  struct rtattr *data = nest(IFLA_INFO_DATA), *peer = nest(VETH_INFO_PEER);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, far);
  attribute_u32(IFLA_MTU, MTU);
  attribute(IFLA_ADDRESS, mac, 6);
  attribute_u32(IFLA_NET_NS_FD, target);
  unnest(peer);
  unnest(data);
  unnest(info);
  end();
  port_settings(name);
  begin(RTM_GETLINK, 0);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, name);
  end();
}

static void delete_group(int fd) {
  begin(RTM_DELLINK, 0);
  link_header(0, 0);
  attribute_u32(IFLA_GROUP, GROUP);
  end();
  exchange(fd, "delete");
}

/* What the API does in a container's namespace, and Docker itself does after Join. */
static void bring_up(int target, const char *name, unsigned number) {
  uint8_t none = IN6_ADDR_GEN_MODE_NONE, address[4] = {10, 99, number >> 8, number};
  struct ifaddrmsg header = {.ifa_family = AF_INET, .ifa_prefixlen = 24};
  begin(RTM_NEWLINK, 0);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, name);
  struct rtattr *families = nest(IFLA_AF_SPEC), *ipv6 = nest(AF_INET6);
  attribute_u8(IFLA_INET6_ADDR_GEN_MODE, none);
  unnest(ipv6);
  unnest(families);
  end();
  begin(RTM_NEWLINK, 0);
  link_header(0, 1);
  attribute_text(IFLA_IFNAME, name);
  end();
  begin(RTM_GETLINK, 0);
  link_header(0, 0);
  attribute_text(IFLA_IFNAME, name);
  end();
  header.ifa_index = exchange(target, "far end");
  begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  put(&header, sizeof header);
  attribute(IFA_LOCAL, address, 4);
  attribute(IFA_ADDRESS, address, 4);
  end();
  exchange(target, "address");
}

/* `far_socket`: a route socket in the target, or -1 when its end stays as it is. */
static uint64_t plug(int overlay, int target, int far_socket, unsigned number) {
  char near[16], far[16];
  uint8_t mac[6] = {2, 0x85, 0, 0, number >> 8, number};
  snprintf(near, sizeof near, "floor%08x", number);
  snprintf(far, sizeof far, "floort%08x", number);
  uint64_t started = now();
  new_veth(near, far, mac, 2, target);
  int index = exchange(overlay, "veth");
  if (far_socket >= 0) bring_up(far_socket, far, number);
  begin(RTM_NEWLINK, 0);
  link_header(index, 1);
  end();
  begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
  neighbour_header(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER);
  attribute(NDA_LLADDR, mac, 6);
  end();
  exchange(overlay, "up, static entry");
  uint64_t took = now() - started;
  begin(RTM_SETLINK, 0); /* for the deletion of all at once */
  link_header(index, 0);
  attribute_u32(IFLA_GROUP, GROUP);
  end();
  exchange(overlay, "group");
  return took;
}

/* As overlay/settings.ts: an interface that comes up tells nobody. Absent in a kernel without IPv6. */
static void no_link_local(void) {
  int fd = open("/proc/sys/net/ipv6/conf/all/addr_gen_mode", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, "1", 1) != 1) die("addr_gen_mode", errno);
  close(fd);
}

static int fresh_namespace(void) {
  if (unshare(CLONE_NEWNET) < 0) die("unshare", errno);
  return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static void endpoints(int home, int attached) {
  int target = attached ? fresh_namespace() : home, far_socket = attached ? route_socket() : -1;
  fresh_namespace();
  no_link_local();
  int overlay = route_socket();
  new_link("br0", 2, "bridge");
  new_link("vxlan0", 3, "vxlan");
  begin(RTM_NEWLINK, 0);
  link_header(3, 1);
  attribute_u32(IFLA_MASTER, 2);
  end();
  exchange(overlay, "overlay");
  if (setns(home, CLONE_NEWNET) < 0) die("setns", errno);
  for (unsigned count, number = 0; scanf("%u", &count) == 1;) {
    for (unsigned i = 0; i < count; i++) {
      printf("%llu ", (unsigned long long)plug(overlay, target, far_socket, number++));
    }
    delete_group(overlay);
    printf("\n");
    fflush(stdout);
  }
}

static void entry(unsigned number, int index) {
  uint8_t mac[6] = {2, 0x84, 10, 1 + (number >> 16), number >> 8, number};
  uint8_t address[4] = {10, 1 + (number >> 16), number >> 8, number};
  uint8_t vtep[4] = {10, 78, 0, 100 + number % 50};
  begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
  neighbour_header(AF_INET, index, NUD_PERMANENT, 0);
  attribute(NDA_DST, address, 4);
  attribute(NDA_LLADDR, mac, 6);
  end();
  begin(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE);
  neighbour_header(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF);
  attribute(NDA_LLADDR, mac, 6);
  attribute(NDA_DST, vtep, 4);
  end();
}

static void entries(int home) {
  for (unsigned count; scanf("%u", &count) == 1;) {
    if (unshare(CLONE_NEWNET) < 0) die("unshare", errno);
    int fd = route_socket();
    new_link("vxlan0", 3, "vxlan");
    exchange(fd, "vxlan");
    uint64_t started = now();
    for (unsigned i = 0; i < count; i++) {
      entry(i + 2, 3);
      if (i % (BATCH / 2) == BATCH / 2 - 1 || i == count - 1) exchange(fd, "entries");
    }
    printf("%llu\n", (unsigned long long)(now() - started));
    fflush(stdout);
    close(fd);
    if (setns(home, CLONE_NEWNET) < 0) die("setns", errno);
  }
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
  if (home < 0) die("/proc/self/ns/net", errno);
  if (!strcmp(what, "endpoints")) endpoints(home, 0);
  else if (!strcmp(what, "attached")) endpoints(home, 1);
  else if (!strcmp(what, "entries")) entries(home);
  else die("usage: floor endpoints|attached|entries", EINVAL);
  return 0;
}
