package vm

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The KVM interface, from the kernel's UAPI header linux/kvm.h.
const (
	kvmCreateVM           = 0xAE01
	kvmCreateVCPU         = 0xAE41
	kvmGetVCPUMmapSize    = 0xAE04
	kvmRun                = 0xAE80
	kvmSetUserMemory      = 0x4020AE46
	kvmGetSregs           = 0x8138AE83
	kvmSetSregs           = 0x4138AE84
	kvmSetRegs            = 0x4090AE82
	kvmExitHlt            = 5
	kvmRunExitReasonShift = 8 // offset of exit_reason in struct kvm_run
)

// kvmUsable reports whether this machine runs stock kernels in hardware. A device
// node proves little, and neither does one instruction: there are KVM back ends
// for guests without hardware virtualisation, and they run kernels made for
// them only. So the processor must have the feature, and HLT must come back as such.
var kvmUsable = sync.OnceValue(func() bool {
	cpuinfo, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || !hasVirtualisation(string(cpuinfo)) {
		return false
	}
	dev, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer dev.Close()
	vm, err := unix.IoctlRetInt(int(dev.Fd()), kvmCreateVM)
	if err != nil {
		return false
	}
	defer unix.Close(vm)
	size, err := unix.IoctlRetInt(int(dev.Fd()), kvmGetVCPUMmapSize)
	if err != nil {
		return false
	}
	return runHalt(vm, size)
})

// hasVirtualisation looks for Intel's or AMD's flag in the text of /proc/cpuinfo.
func hasVirtualisation(cpuinfo string) bool {
	for line := range strings.Lines(cpuinfo) {
		if name, flags, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "flags" {
			words := strings.Fields(flags)
			return slices.Contains(words, "vmx") || slices.Contains(words, "svm")
		}
	}
	return false
}

// runHalt makes a processor with one page of memory at address 0 that holds HLT.
func runHalt(vm, runSize int) bool {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	defer unix.Munmap(page)
	page[0] = 0xF4
	region := struct {
		slot, flags              uint32
		guest, size, userAddress uint64
	}{size: 4096, userAddress: uint64(uintptr(unsafe.Pointer(&page[0])))}
	if !ioctl(vm, kvmSetUserMemory, unsafe.Pointer(&region)) {
		return false
	}
	cpu, err := unix.IoctlRetInt(vm, kvmCreateVCPU)
	if err != nil {
		return false
	}
	defer unix.Close(cpu)
	run, err := unix.Mmap(cpu, 0, runSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return false
	}
	defer unix.Munmap(run)
	var sregs [312]byte // struct kvm_sregs begins with the code segment: base (8 bytes), limit, selector
	if !ioctl(cpu, kvmGetSregs, unsafe.Pointer(&sregs)) {
		return false
	}
	clear(sregs[0:8])   // base 0
	clear(sregs[12:14]) // selector 0
	if !ioctl(cpu, kvmSetSregs, unsafe.Pointer(&sregs)) {
		return false
	}
	regs := [18]uint64{17: 2} // rip 0, rflags with the bit that is always set
	if !ioctl(cpu, kvmSetRegs, unsafe.Pointer(&regs)) {
		return false
	}
	if !ioctl(cpu, kvmRun, nil) {
		return false
	}
	runtime.KeepAlive(page)
	return *(*uint32)(unsafe.Pointer(&run[kvmRunExitReasonShift])) == kvmExitHlt
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) bool {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		if errno != unix.EINTR {
			return errno == 0
		}
	}
}
