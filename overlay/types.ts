/**
 * What the engine asks of the kernel, in the words of the overlay. The engine computes a WantedNetwork from the
 * mirror; `Kernel.reconcile` reads what this host has, and makes it so.
 */
import type { DataPlane } from '../model/data-plane.js';
import type {
  EndpointId,
  IfName,
  InterfaceAddress,
  IpAddress,
  MacAddress,
  NetnsPath,
  NetworkId,
  Vni,
} from '../model/scalars.js';

/** Where the container's interface is to be. */
export type PortPlace =
  /** Left in the host's namespace under `name`, down: Docker moves, renames and addresses it. */
  | {
      readonly kind: 'host';
      readonly name: IfName;
      /** Where Docker moves it, as far as it is known. */
      readonly sandbox: NetnsPath | undefined;
    }
  /** Put into the namespace at `path` as `name`, or when that is taken as the first free of sand0, sand1, …; up. */
  | { readonly kind: 'netns'; readonly path: NetnsPath; readonly name: IfName | undefined };

/** The same with what its interface is to have. */
export type PortTarget =
  | Extract<PortPlace, { kind: 'host' }>
  | (Extract<PortPlace, { kind: 'netns' }> & { readonly address: InterfaceAddress });

/** A port but for its address: a pair that is made ahead of its endpoint's record, or that is to go. */
export interface BarePort {
  readonly endpointId: EndpointId;
  /** Name of the end in the overlay namespace; a macvlan, which has none, bears it as its alias. */
  readonly overlayVeth: IfName;
  /** Undefined: the kernel's choice. */
  readonly overlayMac: MacAddress | undefined;
  /** While it follows from an address that is not known yet, that of the overlay's end. */
  readonly targetMac: MacAddress;
  readonly target: PortPlace;
}

/** One local endpoint: a veth pair with one end in the overlay namespace's bridge, or a macvlan on its VXLAN. */
export interface WantedPort extends BarePort {
  readonly target: PortTarget;
}

/** A remote endpoint: one permanent ARP entry (address → mac) and one permanent FDB entry (mac → vtep). */
export interface RemotePeer {
  readonly address: IpAddress;
  readonly mac: MacAddress;
  readonly vtep: IpAddress;
}

/** One network as this host should have it. Exists only while the host has an endpoint in it. */
export interface WantedNetwork {
  readonly networkId: NetworkId;
  /** The overlay namespace is bound to this file. */
  readonly netns: NetnsPath;
  readonly vni: Vni;
  /** UDP port of the underlay. */
  readonly port: number;
  /** Outer UDP checksums on or off. */
  readonly udpChecksum: boolean;
  /** The host's VTEP address: outer source of every packet. */
  readonly local: IpAddress;
  /** MTU inside the network, for all of its interfaces. */
  readonly mtu: number;
  /** Default: bridge. */
  readonly dataPlane: DataPlane;
  /** Carried by the bridge, or by a macvlan of the overlay namespace. */
  readonly gateway: InterfaceAddress;
  readonly ports: readonly WantedPort[];
  /** Overlay ends that are bare, or whose removal is under way elsewhere: they are left alone, wanted or not. */
  readonly leaving: readonly IfName[];
  /** Packed by `packPeers` (overlay/peers.ts): ten thousand of them cross to the worker in one buffer. */
  readonly peers: Uint8Array;
}

/** Where ports are: the overlay's namespace, and the MTU inside. */
export type OverlayPlace = Pick<WantedNetwork, 'netns' | 'mtu'>;

/** Ports that come and go in one batch. */
export interface PortChange {
  readonly plug: readonly WantedPort[];
  readonly unplug: readonly BarePort[];
}
/** Of each port that was to come: the name of the target's end, or why there is none. */
export type PlugResult = { readonly ifName: IfName } | { readonly error: Error };

/** One difference between kernel and wanted that reconcile found and mended, `bridge br0: mtu 1500, wanted 1450`. */
export type Repair = string;

export interface ReconcileReport {
  /** True when the namespace did not exist before. */
  readonly created: boolean;
  /** Mended differences of a namespace that existed; empty when the kernel was as wanted. */
  readonly repairs: readonly Repair[];
  /** Ports without an interface. Only `plug` makes one: its place is somebody else's to choose. */
  readonly missingPorts: readonly EndpointId[];
}

/** What a reconcile would find, without touching anything. */
export interface Inspection {
  /** What it would mend. */
  readonly repairs: readonly Repair[];
  readonly missingPorts: readonly EndpointId[];
  /** What somebody else has put into the network: a reconcile leaves it alone. */
  readonly foreign: readonly string[];
}

/** The interface in the host's namespace that carries the underlay. */
export interface Underlay {
  readonly ifName: IfName;
  readonly mtu: number;
}

/** Both are IPv4. */
export interface TcpRoute {
  readonly from: IpAddress;
  readonly to: IpAddress;
}
