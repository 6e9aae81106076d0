package replication

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/statemachine"
)

const inNamespace = "URBD_TEST_NETWORK_NAMESPACE"

// ownNetwork runs the test that calls it once more, in a network namespace of its own, where it may make and break
// links. It is true there, and false when that is over.
func ownNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func TestLinkGoesDown(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	links := [2]netlink.Link{addLink(t, "v0", "10.9.0.1/24"), addLink(t, "v1", "10.9.1.1/24")}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo) // what the node says to itself goes this way
	}
	if err != nil {
		t.Fatal(err)
	}
	nodes := newNodes(t, func(r *config.Resource) {
		r.Hosts[0].Address = netip.MustParseAddrPort("10.9.0.1:7789")
		r.Hosts[1].Address = netip.MustParseAddrPort("10.9.1.1:7789")
	})
	up := func(s statemachine.State) bool { return s.Conn >= statemachine.Connected }
	down := func(s statemachine.State) bool { return s.Conn < statemachine.WFReportParams }
	nodes[0].up()
	nodes[1].up()
	nodes[0].await("Connected", up)
	began := time.Now()
	if err := netlink.LinkSetDown(links[0]); err != nil {
		t.Fatal(err)
	}
	nodes[0].await("down with its link", down)
	nodes[0].log.wait(t, "NetworkFailure: the link v0 is down")
	t.Logf("dropped %v after the link went down; a ping would have taken up to %v", time.Since(began), nodes[0].cfg.Resource.Net.PingInterval)
	if err := netlink.LinkSetUp(links[0]); err != nil {
		t.Fatal(err)
	}
	nodes[0].await("Connected again", up)
	addr, _ := netlink.ParseAddr("10.9.1.1/24")
	if err := netlink.AddrDel(links[1], addr); err != nil {
		t.Fatal(err)
	}
	nodes[1].await("down with its address", down)
	nodes[0].await("down with the peer's address", down)
	if err := netlink.AddrAdd(links[1], addr); err != nil {
		t.Fatal(err)
	}
	nodes[1].await("Connected again", up)
}

// Link-local addresses mean something together with a link; each host's section names its own.
func TestLinkLocal(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "here"}, PeerName: "there"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	there, err := netlink.LinkByName("there")
	if err != nil {
		t.Fatal(err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{lo, veth, there} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	// Both ends get the address that they are given, not one of a random kernel's choice. They are tentative at first.
	for l, text := range map[netlink.Link]string{veth: "fe80::a/64", there: "fe80::b/64"} {
		a, err := netlink.ParseAddr(text)
		if err == nil {
			err = netlink.AddrAdd(l, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	nodes := newNodes(t, func(r *config.Resource) {
		r.Hosts[0].Address = netip.MustParseAddrPort("[fe80::a%here]:7789")
		r.Hosts[1].Address = netip.MustParseAddrPort("[fe80::b%there]:7789")
	})
	nodes[0].up()
	nodes[1].up()
	nodes[0].await("Connected", func(s statemachine.State) bool { return s.Conn >= statemachine.Connected })
	st, err := nodes[0].res.report(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Connections[0].Paths[0].RemoteHost.Address; got != "fe80::b%here" {
		t.Errorf("the peer is reached at %s", got)
	}
	if err := netlink.LinkSetDown(veth); err != nil {
		t.Fatal(err)
	}
	nodes[0].await("down with its link", func(s statemachine.State) bool { return s.Conn < statemachine.WFReportParams })
	nodes[0].log.wait(t, "NetworkFailure: the ")

	// The address is there, on another link.
	wrong := nodes[1].cfg
	host := *wrong.Local
	host.Address = netip.MustParseAddrPort("[fe80::b%here]:7790")
	wrong.Local = &host
	wrong.RunDir = t.TempDir()
	r, err := New(wrong)
	if err != nil {
		t.Fatal(err)
	}
	noAddress := new(NoAddressError)
	if err := r.checkAddress(t.Context()); !errors.As(err, &noAddress) || !strings.Contains(err.Error(), "did you mean fe80::b%there?") {
		t.Errorf("an address of another link: %v", err)
	}
}

// The way to the peer may depend on the address that one comes from.
func TestPolicyRouting(t *testing.T) {
	if !ownNetwork(t) {
		return
	}
	link := addLink(t, "v0", "10.9.0.1/24")
	_, far, _ := net.ParseCIDR("10.9.7.0/24")
	_, own, _ := net.ParseCIDR("10.9.0.1/32")
	rule := netlink.NewRule()
	rule.Src, rule.Table = own, 100
	err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: far, Gw: net.IPv4(10, 9, 0, 254), Table: 100})
	if err == nil {
		err = netlink.RuleAdd(rule)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{
		Resource: &config.Resource{Name: "r0"},
		Local:    &config.Host{Address: netip.MustParseAddrPort("10.9.0.1:7789")},
		Peer:     &config.Host{Address: netip.MustParseAddrPort("10.9.7.1:7789")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.carried(); err != nil {
		t.Errorf("with a rule for the source: %v", err)
	}
	if err := netlink.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	if err := r.carried(); err == nil || !strings.Contains(err.Error(), "no route to 10.9.7.1") {
		t.Errorf("without it: %v", err)
	}
}

// addLink makes one end of a pair with an address; the other end gives it a carrier.
func addLink(t *testing.T, name, address string) netlink.Link {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "p"}
	addr, err := netlink.ParseAddr(address)
	if err == nil {
		err = netlink.LinkAdd(veth)
	}
	if err == nil {
		err = netlink.AddrAdd(veth, addr)
	}
	for _, n := range []string{name, name + "p"} {
		var l netlink.Link
		if err == nil {
			l, err = netlink.LinkByName(n)
		}
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return veth
}
