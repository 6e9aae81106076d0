// Package lab sets urbd up on the two nodes of the rig, the way an
// administrator would: configuration, metadata, up, primary. The demonstration,
// the benchmark and the scenarios on real kernels stand on it.
//
//	this machine                 guest alpha                  guest beta
//	lab.Start  -- boots -->  /etc/urbd.d/r0.res           /etc/urbd.d/r0.res
//	(*Lab).Urbd  -------->  urbd create-md, up, ...      urbd create-md, up, ...
//	(*Lab).Compare           /dev/vda  = a sparse file    /dev/vda
//
// One node may run the kernel's own DRBD instead ([Options].Driver): then the
// same resource is served by two implementations.
package lab
