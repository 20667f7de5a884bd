"""Memory that lookups cost a process, in KiB: what all its mappings but the shared snapshot have of their own after
ten thousand of them, less what they had after the first hundred, which loaded the library."""

import pwd
def private():
    total, count = 0, True
    for line in open('/proc/self/smaps'):
        if '-' in line.split()[0]: count = not line.rstrip().endswith('/snapshot')
        elif count and line.startswith(('Private_Dirty', 'Private_Clean')): total += int(line.split()[1])
    return total
def ask(first, last):
    for i in range(first, last): pwd.getpwnam('u%05d' % i)
private(); ask(0, 100)
before = private()
ask(100, 10000)
print(private() - before)
