/* Run a policy on recorded inputs on a Cortex-M in QEMU and print, for each decision, its instructions, its spikes and its
   action. Nothing is needed but the policy, `records.h` and the C library's functions of float. */
#include "policy.h"
#include "records.h"

#include <stdint.h>

extern uint32_t data_begin, data_end, data_stored, bss_begin, bss_end, stack_begin, stack_end;
int main(void);
void reset(void);

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define SYSTICK_CONTROL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_NOW REGISTER(0xE000E018u)
#define COPROCESSORS REGISTER(0xE000ED88u)
#define UNUSED_STACK 0xA5A5A5A5u

static void stop(void) {
    for (;;) {}
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_end, (void *)reset, (void *)stop, (void *)stop, (void *)stop, (void *)stop, (void *)stop, 0,
    0,          0,             0,            (void *)stop, 0,            0,            (void *)stop, (void *)stop,
};

/* Semihosting: the debugger, here QEMU, prints a text or ends the program. */
static void host(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void print(uint32_t number, const char *end) {
    char text[12];
    int i = 11;
    text[11] = 0;
    do text[--i] = (char)('0' + number % 10);
    while (number /= 10);
    host(4, text + i);
    host(4, end);
}

__attribute__((naked)) void reset(void) {
    /* Paint the stack before anything is on it. */
    __asm__ volatile("ldr r0, =stack_begin\n ldr r1, =stack_end\n ldr r2, =0xA5A5A5A5\n"
                     "1: str r2, [r0], #4\n cmp r0, r1\n blo 1b\n bl main\n");
}

static policy_state state;

int main(void) {
    uint32_t *from = &data_stored;
    for (uint32_t *to = &data_begin; to < &data_end;) *to++ = *from++;
    for (uint32_t *to = &bss_begin; to < &bss_end;) *to++ = 0;
    COPROCESSORS |= 0xFu << 20; /* the floating-point unit, where there is one */
    SYSTICK_RELOAD = 0xFFFFFFu;
    SYSTICK_NOW = 0;
    SYSTICK_CONTROL = 5; /* on, no interrupt, 25 MHz: with -icount shift=0 a tick is 40 instructions */
    policy_init(&state);
    policy_reset(&state, TARGET);
    for (int i = 0; i < RECORDS; ++i) {
        const uint32_t begin = SYSTICK_NOW;
        ACT
        const uint32_t ticks = (begin - SYSTICK_NOW) & 0xFFFFFFu;
        policy_observe(&state, REWARDS[i]);
        print(ticks * 40u, " ");
        print(policy_spikes(&state), " ");
        for (int k = 0; k < NUMBERS; ++k) print(bits.word[k], k + 1 < NUMBERS ? " " : "\n");
    }
    uint32_t used = (uint32_t)((char *)&stack_end - (char *)&stack_begin);
    for (const uint32_t *at = &stack_begin; at < &stack_end && *at == UNUSED_STACK; ++at) used -= 4;
    print(used, " stack\n");
    print((uint32_t)sizeof state, " state\n");
    host(0x18, (void *)0x20026); /* end: all is well */
    return 0;
}
