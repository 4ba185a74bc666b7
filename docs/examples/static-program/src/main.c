/* Greets whom it is told to. */
#include <stdio.h>
#include "greeting.h"

int main(int count, char **words) {
    printf(GREETING ", %s! (" VERSION ")\n", count > 1 ? words[1] : "world");
    return 0;
}
