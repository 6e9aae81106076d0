package vm

import (
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
)

// tscKHz is the rate of this machine's time stamp counter, which is also that of an emulated guest; 0 if it is not known for
// certain. Told, the guest need not measure it: on a busy machine it measures wrong, once in a while, and its clock then runs
// several times too fast for the whole boot.
var tscKHz = sync.OnceValue(func() int {
	if _, err := os.Stat("/sys/devices/system/cpu/cpu0/cpufreq"); err == nil {
		return 0 // cpuinfo has what the processor runs at now
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return 0
	}
	return parseTSC(string(text))
})

// parseTSC reads /proc/cpuinfo, in which a kernel that was told the rate itself, by a hypervisor or the processor, has it.
func parseTSC(cpuinfo string) int {
	known, khz := false, 0
	for line := range strings.Lines(cpuinfo) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "flags":
			known = strings.Contains(value, " tsc_known_freq")
		case "cpu MHz":
			if mhz, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				khz = int(math.Round(mhz * 1000))
			}
		}
	}
	if !known {
		return 0
	}
	return khz
}
