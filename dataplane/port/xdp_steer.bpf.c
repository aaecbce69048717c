// The XDP program of a net_af_xdp port: hands UDP datagrams for our doors to the port's sockets and
// leaves everything else to the kernel, which keeps the interface, its addresses, ARP and ping.
//
// Until the maps below are filled it redirects nothing. IPv4 fragments and IPv6 packets with
// extension headers go to the kernel, too: the port number is not where this program looks, or not
// in this packet.

// clang-format off: the kernel's types come before what uses them
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#define QUEUES_MAX 256
#define ADDRESSES_MAX 256
#define VLAN_TAGS_MAX 2
#define IPV4_FRAGMENT 0x3FFF  // more fragments, or an offset

struct vlan_tag {
    __be16 tci;
    __be16 protocol;
};

// As struct XdpAddress in xdp.cc.
struct address {
    __u32 family;  // 4 or 6
    __u8 bytes[16];
};

// Receive queue to socket; filled by DPDK's driver, which finds it by this name.
struct {
    __uint(type, BPF_MAP_TYPE_XSKMAP);
    __uint(max_entries, QUEUES_MAX);
    __type(key, __u32);
    __type(value, __u32);
} xsks_map SEC(".maps");

// One bit per UDP port.
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 65536 / 64);
    __type(key, __u32);
    __type(value, __u64);
} udp_ports SEC(".maps");

// Addresses datagrams must be for. The one of family 0 stands for all.
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, ADDRESSES_MAX);
    __type(key, struct address);
    __type(value, __u8);
} addresses SEC(".maps");

static __always_inline int wanted_port(__be16 port) {
    __u32 number = bpf_ntohs(port);
    __u32 word = number / 64;
    __u64* bits = bpf_map_lookup_elem(&udp_ports, &word);
    return bits != 0 && ((*bits >> (number % 64)) & 1) != 0;
}

static __always_inline int wanted_address(struct address* to) {
    struct address any = {0};
    return bpf_map_lookup_elem(&addresses, to) != 0 || bpf_map_lookup_elem(&addresses, &any) != 0;
}

SEC("xdp")
int penstock_steer(struct xdp_md* context) {
    void* at = (void*)(long)context->data;
    void* end = (void*)(long)context->data_end;
    struct ethhdr* ethernet = at;
    if ((void*)(ethernet + 1) > end) {
        return XDP_PASS;
    }
    __be16 protocol = ethernet->h_proto;
    at = ethernet + 1;
#pragma unroll
    for (int i = 0; i < VLAN_TAGS_MAX; ++i) {
        struct vlan_tag* tag = at;
        if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD)) {
            break;
        }
        if ((void*)(tag + 1) > end) {
            return XDP_PASS;
        }
        protocol = tag->protocol;
        at = tag + 1;
    }

    struct address to = {0};
    struct udphdr* udp;
    if (protocol == bpf_htons(ETH_P_IP)) {
        struct iphdr* ip = at;
        if ((void*)(ip + 1) > end || ip->ihl < 5 || ip->protocol != IPPROTO_UDP ||
            (ip->frag_off & bpf_htons(IPV4_FRAGMENT)) != 0) {
            return XDP_PASS;
        }
        to.family = 4;
        __builtin_memcpy(to.bytes, &ip->daddr, 4);
        udp = at + ip->ihl * 4;
    } else if (protocol == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr* ip = at;
        if ((void*)(ip + 1) > end || ip->nexthdr != IPPROTO_UDP) {
            return XDP_PASS;
        }
        to.family = 6;
        __builtin_memcpy(to.bytes, &ip->daddr, 16);
        udp = (void*)(ip + 1);
    } else {
        return XDP_PASS;
    }
    if ((void*)(udp + 1) > end || !wanted_port(udp->dest) || !wanted_address(&to)) {
        return XDP_PASS;
    }
    // A queue without a socket of ours: the kernel has it.
    return bpf_redirect_map(&xsks_map, context->rx_queue_index, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
