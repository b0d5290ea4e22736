/** Numbers of the kernel's interface, each group with the header that fixes it. */

// linux/netlink.h, linux/socket.h
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_RAW_CLOEXEC = 0x8_0003;
export const SOCK_RAW_CLOEXEC_NONBLOCK = 0x8_0803;
export const SOCK_STREAM_CLOEXEC_NONBLOCK = 0x8_0801;
export const NETLINK_ROUTE = 0;
export const SOL_SOCKET = 1;
export const SOL_IP = 0;
export const IP_BIND_ADDRESS_NO_PORT = 24; // linux/in.h
export const SO_RCVBUFFORCE = 33;
export const SOL_NETLINK = 270;
export const MSG_DONTWAIT = 0x40;
export const NETLINK_LISTEN_ALL_NSID = 8;
export const NETLINK_CAP_ACK = 10;
export const NETLINK_EXT_ACK = 11;
export const NETLINK_GET_STRICT_CHK = 12;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_CAPPED = 0x100;
export const NLM_F_ACK_TLVS = 0x200;
export const NLMSGERR_ATTR_MSG = 1;
export const NLA_F_NESTED = 0x8000;
export const NLA_TYPE_MASK = 0x3fff;

// linux/rtnetlink.h
export const RTNLGRP_LINK = 1;
export const RTNLGRP_NEIGH = 3; // ARP, and FDB of bridges and VXLANs
export const RTNLGRP_IPV4_IFADDR = 5;
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;
export const RTM_NEWADDR = 20;
export const RTM_GETADDR = 22;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const RTM_NEWNSID = 88;
export const RTM_GETNSID = 90;

// linux/if_link.h, linux/if.h
export const IFF_UP = 1;
export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_MASTER = 10;
export const IFLA_LINKINFO = 18;
export const IFLA_IFALIAS = 20;
export const IFLA_AF_SPEC = 26;
export const IFLA_GROUP = 27;
export const IFLA_NET_NS_FD = 28;
export const IFLA_EXT_MASK = 29;
export const RTEXT_FILTER_SKIP_STATS = 1 << 3;
export const IFLA_LINK_NETNSID = 37;
export const IFLA_TARGET_NETNSID = 46;
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;
export const IFLA_INFO_SLAVE_KIND = 4;
export const IFLA_INFO_SLAVE_DATA = 5;
export const IFLA_BR_MCAST_SNOOPING = 23;
export const IFLA_BRPORT_LEARNING = 8;
export const IFLA_BRPORT_UNICAST_FLOOD = 9;
export const IFLA_INET6_ADDR_GEN_MODE = 8;
export const IN6_ADDR_GEN_MODE_NONE = 1;
export const IFLA_VXLAN_ID = 1;
export const IFLA_VXLAN_LOCAL = 4;
export const IFLA_VXLAN_LEARNING = 7;
export const IFLA_VXLAN_PROXY = 11;
export const IFLA_VXLAN_PORT = 15;
export const IFLA_VXLAN_LOCAL6 = 17;
export const IFLA_VXLAN_UDP_CSUM = 18;
export const IFLA_MACVLAN_MODE = 1;
export const MACVLAN_MODE_BRIDGE = 4;
export const VETH_INFO_PEER = 1; // linux/veth.h

// linux/net_namespace.h
export const NETNSA_NSID = 1;
export const NETNSA_FD = 3;
export const NETNSA_NSID_NOT_ASSIGNED = -1;

// linux/if_addr.h
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_BROADCAST = 4;

// linux/neighbour.h
export const NDA_DST = 1;
export const NDA_LLADDR = 2;
export const NDA_IFINDEX = 8;
export const NUD_NOARP = 0x40;
export const NUD_PERMANENT = 0x80;
export const NTF_SELF = 0x02;
export const NTF_MASTER = 0x04;

// linux/sched.h, linux/mount.h, linux/magic.h, asm-generic/errno-base.h
export const CLONE_NEWNET = 0x4000_0000;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_NOEXEC = 8;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;
export const MNT_DETACH = 2;
export const NSFS_MAGIC = 0x6e73_6673;
export const NS_GET_NSTYPE = 0xb703; // linux/nsfs.h
export const O_PATH = 0o10_000_000; // asm-generic/fcntl.h
export const ENOENT = 2;
export const EAGAIN = 11;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const EINVAL = 22;
export const EAFNOSUPPORT = 97; // asm-generic/errno.h
export const EADDRNOTAVAIL = 99;
export const ENOBUFS = 105;

// asm/unistd_64.h of x86-64; asm-generic/unistd.h
export const [SYS_SCHED_SETATTR, SYS_SCHED_GETATTR] = process.arch === 'x64' ? [314, 315] : [274, 275];

// Chosen by us.
export const BATCH_MESSAGES = 256; // chosen: larger batches are no faster, and hold the worker longer
export const RECEIVE_BYTES = 256 * 1024; // the kernel sizes dump packets by the largest receive seen, from 32 KiB
export const REMOVAL_GROUP = 0x5a4d; // interfaces on their way out; deleted together, one wait for all
