package uapi

// Feature flags of GetFeatures and DevInfo.Flags. Source: docs/ublk.md 1.6.
const (
	FSupportZeroCopy     uint64 = 1 << 0
	FUserRecovery        uint64 = 1 << 3
	FUserRecoveryReissue uint64 = 1 << 4
	FUnprivileged        uint64 = 1 << 5
	FIoctlEncode         uint64 = 1 << 6
	FUserCopy            uint64 = 1 << 7
	FUserRecoveryFailIO  uint64 = 1 << 9
	FUpdateSize          uint64 = 1 << 10
	FAutoBufReg          uint64 = 1 << 11
	FQuiesce             uint64 = 1 << 12
	FSafeStop            uint64 = 1 << 17
	FNoPartitionScan     uint64 = 1 << 18
)

// FeatureNames are the driver's names of all its flags, by bit.
var FeatureNames = [...]string{
	"SUPPORT_ZERO_COPY", "URING_CMD_COMP_IN_TASK", "NEED_GET_DATA", "USER_RECOVERY", "USER_RECOVERY_REISSUE",
	"UNPRIVILEGED_DEV", "CMD_IOCTL_ENCODE", "USER_COPY", "ZONED", "USER_RECOVERY_FAIL_IO", "UPDATE_SIZE",
	"AUTO_BUF_REG", "QUIESCE", "PER_IO_DAEMON", "BUF_REG_OFF_DAEMON", "BATCH_IO", "INTEGRITY", "SAFE_STOP_DEV",
	"NO_AUTO_PART_SCAN", "SHMEM_ZC", "IO_DESC_SIZE",
}
