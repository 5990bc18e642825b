/* Preloaded into every node: a stream socket bound to the wildcard address is bound
   to one address instead: loopback, or the IPv4 address in METAMIMIC_HOST. Reverb
   listens on [::] and offers no option for it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

typedef int (*bind_function)(int, const struct sockaddr *, socklen_t);

static int is_stream(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_STREAM;
}

/* Fails rather than to leave a socket where it would be for all to reach. */
static int find_host(struct in_addr *host) {
  const char *text = getenv("METAMIMIC_HOST");
  host->s_addr = htonl(INADDR_LOOPBACK);
  if (!text) return 0;
  if (inet_pton(AF_INET, text, host) != 1 || host->s_addr == htonl(INADDR_ANY)) {
    errno = EADDRNOTAVAIL;
    return -1;
  }
  return 0;
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
  bind_function next = (bind_function)dlsym(RTLD_NEXT, "bind");
  if (!next) {
    errno = ENOSYS;
    return -1;
  }
  if (!address || length < sizeof(sa_family_t) || !is_stream(fd))
    return next(fd, address, length);

  if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    /* ::ffff:127.0.0.1, so that clients of either family find it at 127.0.0.1. */
    static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    struct sockaddr_in6 copy;
    struct in_addr host;
    memcpy(&copy, address, sizeof copy);
    if (!memcmp(&copy.sin6_addr, &in6addr_any, sizeof in6addr_any)) {
      int off = 0;
      if (find_host(&host)) return -1;
      setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
      memcpy(&copy.sin6_addr, mapped, sizeof mapped);
      memcpy((char *)&copy.sin6_addr + sizeof mapped, &host, sizeof host);
      return next(fd, (struct sockaddr *)&copy, sizeof copy);
    }
  } else if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    struct sockaddr_in copy;
    memcpy(&copy, address, sizeof copy);
    if (copy.sin_addr.s_addr == htonl(INADDR_ANY)) {
      if (find_host(&copy.sin_addr)) return -1;
      return next(fd, (struct sockaddr *)&copy, sizeof copy);
    }
  }
  return next(fd, address, length);
}
