"""The shop's routes: Lback's own registration and login."""

from lback.core.urls_utils import include

# Lback finds routes only behind an include: a plain path here would hide all that follow it.
urlpatterns = [include("lback.auth_app.urls", prefix="/")]
