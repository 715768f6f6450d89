/* masked_cpu.c - a library to preload into a process; it hides CPU features from the process.
 *
 * It makes CPUID fault. The signal handler returns the CPU's registers without the bits in $MASKED_LEAF1_ECX,
 * $MASKED_LEAF7_EBX and $MASKED_LEAF7_ECX (hexadecimal), and with the vendor name in $MASKED_MAKER (12 letters), if
 * set. If CPUID cannot be made to fault, the process exits with status 77. */
#if defined(__x86_64__) && defined(__linux__)
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static unsigned masked_leaf1_ecx, masked_leaf7_ebx, masked_leaf7_ecx;
static const char *maker;

static long let_cpuid(int work) { return syscall(SYS_arch_prctl, ARCH_SET_CPUID, work); }

static void answer_cpuid(int number, siginfo_t *info, void *context) {
    static const unsigned char cpuid[2] = {0x0F, 0xA2};
    greg_t *const registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)info;
    if (memcmp((const void *)registers[REG_RIP], cpuid, sizeof cpuid) != 0) {
        signal(number, SIG_DFL); /* a real crash: it happens again on return */
        return;
    }
    const unsigned leaf = (unsigned)registers[REG_RAX], subleaf = (unsigned)registers[REG_RCX];
    unsigned eax, ebx, ecx, edx;
    let_cpuid(1);
    __cpuid_count(leaf, subleaf, eax, ebx, ecx, edx);
    let_cpuid(0);
    if (leaf == 1) { ecx &= ~masked_leaf1_ecx; }
    if (leaf == 7 && subleaf == 0) {
        ebx &= ~masked_leaf7_ebx;
        ecx &= ~masked_leaf7_ecx;
    }
    if (leaf == 0 && maker != NULL) {
        memcpy(&ebx, maker, 4);
        memcpy(&edx, maker + 4, 4);
        memcpy(&ecx, maker + 8, 4);
    }
    registers[REG_RAX] = eax;
    registers[REG_RBX] = ebx;
    registers[REG_RCX] = ecx;
    registers[REG_RDX] = edx;
    registers[REG_RIP] += (greg_t)sizeof cpuid;
}

static unsigned mask(const char *variable) {
    const char *const text = getenv(variable);
    return text == NULL ? 0 : (unsigned)strtoul(text, NULL, 16);
}

__attribute__((constructor)) static void hide(void) {
    masked_leaf1_ecx = mask("MASKED_LEAF1_ECX");
    masked_leaf7_ebx = mask("MASKED_LEAF7_EBX");
    masked_leaf7_ecx = mask("MASKED_LEAF7_ECX");
    maker = getenv("MASKED_MAKER");
    struct sigaction action = {.sa_sigaction = answer_cpuid, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    if (let_cpuid(0) != 0) { _exit(77); }
}
#endif
