package replication

import (
	"crypto/rand"
	"encoding/binary"

	"github.com/urbd/urbd/replication/config"
	"github.com/urbd/urbd/replication/engine"
)

const pageSize = 4096

// engineConfig translates a resource of the configuration for the engine. The
// configuration has no zero values that mean "default", the engine has.
func engineConfig(r *config.Resource, local *config.Host) engine.Config {
	c := engine.Config{Resource: r.Name, Net: netOptions(&r.Net), Random: random}
	for i := range local.Volumes {
		v := &local.Volumes[i]
		c.Volumes = append(c.Volumes, engine.VolumeConfig{
			Number: v.Number,
			Disk:   diskOptions(&v.Options),
			Meta:   engine.MetaPlacement{External: !v.MetaDisk.Internal, Index: v.MetaDisk.Index},
		})
	}
	return c
}

// bufferSize is what the engine gets for payloads: max-buffers pages, in both
// directions, and what each volume has for itself.
func bufferSize(c *engine.Config) int64 {
	peer := max(int64(c.Net.MaxBuffers)*pageSize*2, engine.MinBuffers)
	return peer + int64(len(c.Volumes))*engine.VolumeBuffers
}

func netOptions(n *config.Net) engine.NetOptions {
	o := engine.NetOptions{
		Protocol:     engine.Protocol(n.Protocol[0] - 'A' + 1),
		Timeout:      n.Timeout,
		KOCount:      n.KOCount,
		PingInterval: n.PingInterval,
		PingTimeout:  n.PingTimeout,
		MaxEpochSize: n.MaxEpochSize,
		MaxBuffers:   n.MaxBuffers,
		NoRLE:        !n.UseRLE,
		VerifyAlg:    n.VerifyAlg,
	}
	if o.KOCount == 0 { // "never", to the configuration
		o.KOCount = -1
	}
	return o
}

func diskOptions(d *config.Disk) engine.DiskOptions {
	o := engine.DiskOptions{
		Size:        d.Size,
		ALExtents:   d.ALExtents,
		ResyncRate:  d.ResyncRate,
		PlanAhead:   d.CPlanAhead,
		DelayTarget: d.CDelayTarget,
		FillTarget:  d.CFillTarget,
		MaxRate:     d.CMaxRate,
		MinRate:     d.CMinRate,
		Timeout:     d.DiskTimeout,
		NoFlush:     !d.DiskFlushes,
		NoMetaFlush: !d.MDFlushes,
	}
	if o.PlanAhead == 0 { // "no controller", to the configuration
		o.PlanAhead = -1
	}
	if o.FillTarget == 0 { // "none"
		o.FillTarget = -1
	}
	if o.MinRate == 0 { // "no throttling"
		o.MinRate = -1
	}
	return o
}

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
