// Not deferred: before the first paint it is known whether the operator keeps the sidebar closed (see console.css).
"use strict";
document.documentElement.classList.toggle("sidebar-closed", localStorage.getItem("django.admin.navSidebarIsOpen") === "false");
