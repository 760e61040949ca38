################################################################################
#
# alia-linux
#
################################################################################

# What `cargo xtask image --builder buildroot` hands on: the distribution's source package, and the
# options of image.toml as a fragment that names the key for modules.
ALIA_LINUX_VERSION = $(or $(ALIA_LINUX_SOURCE_VERSION),unset)
ALIA_LINUX_SITE = $(patsubst %/,%,$(dir $(ALIA_LINUX_TARBALL)))
ALIA_LINUX_SOURCE = $(notdir $(ALIA_LINUX_TARBALL))
# All versions of the archive have one name: what was fetched for another is not to be taken.
ALIA_LINUX_DL_SUBDIR = alia-linux/$(ALIA_LINUX_VERSION)
# apt held the package that it lies in against the archive's signature.
BR_NO_CHECK_HASH_FOR += $(ALIA_LINUX_SOURCE)
ALIA_LINUX_LICENSE = GPL-2.0 WITH Linux-syscall-note
ALIA_LINUX_LICENSE_FILES = \
	COPYING \
	LICENSES/preferred/GPL-2.0 \
	LICENSES/exceptions/Linux-syscall-note
ALIA_LINUX_INSTALL_IMAGES = YES

# As image/src/kernel/source.rs, so that the same options make the same configuration.
ALIA_LINUX_MAKE_ENV = \
	$(HOST_MAKE_ENV) \
	KCONFIG_ALLCONFIG=$(ALIA_LINUX_OPTIONS) \
	KBUILD_BUILD_TIMESTAMP=@$(ALIA_LINUX_TIME) \
	KBUILD_BUILD_USER=alia \
	KBUILD_BUILD_HOST=alia \
	KBUILD_BUILD_VERSION=1
ALIA_LINUX_MAKE_OPTS = \
	ARCH=x86 \
	HOSTCC="$(HOSTCC)" \
	CROSS_COMPILE="$(TARGET_CROSS)" \
	INSTALL_MOD_PATH=$(TARGET_DIR) \
	INSTALL_MOD_STRIP=1 \
	DEPMOD=true

define ALIA_LINUX_CONFIGURE_CMDS
	$(ALIA_LINUX_MAKE_ENV) $(MAKE1) -C $(@D) $(ALIA_LINUX_MAKE_OPTS) allnoconfig
endef

define ALIA_LINUX_BUILD_CMDS
	$(ALIA_LINUX_MAKE_ENV) $(MAKE) -C $(@D) $(ALIA_LINUX_MAKE_OPTS) bzImage modules
endef

# The links that are removed lead to where it was built.
define ALIA_LINUX_INSTALL_TARGET_CMDS
	$(ALIA_LINUX_MAKE_ENV) $(MAKE1) -C $(@D) $(ALIA_LINUX_MAKE_OPTS) modules_install
	rm -f $(TARGET_DIR)/lib/modules/*/build $(TARGET_DIR)/lib/modules/*/source
endef

define ALIA_LINUX_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0644 $(@D)/arch/x86/boot/bzImage $(BINARIES_DIR)/bzImage
	$(INSTALL) -D -m 0644 $(@D)/.config $(BINARIES_DIR)/linux.config
	$(INSTALL) -D -m 0644 $(@D)/include/config/kernel.release $(BINARIES_DIR)/linux.release
endef

$(eval $(generic-package))

# Other options, another configuration.
$(ALIA_LINUX_TARGET_CONFIGURE): $(ALIA_LINUX_OPTIONS)
